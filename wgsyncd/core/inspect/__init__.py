"""Answers questions that only commands ask: adopt, explain, verify, usage and doctor."""
