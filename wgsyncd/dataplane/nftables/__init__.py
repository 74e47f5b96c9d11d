"""The packet filter: what each device may reach, as one table of nftables."""
