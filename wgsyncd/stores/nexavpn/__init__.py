"""The store of NexaVPN, on PostgreSQL."""
