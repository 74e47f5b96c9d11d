"""From policies to the addresses that each device may reach."""
