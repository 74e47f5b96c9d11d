"""The control plane NexaVPN on PostgreSQL: all its SQL and everything that knows its columns."""
