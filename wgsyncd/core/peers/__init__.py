"""A device row becomes a kernel peer."""
