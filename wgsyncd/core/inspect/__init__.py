"""What only commands ask: explain, adopt, verify, usage reports."""
