"""The commands: one file for each, found by its name."""
