"""The configuration: typed settings, the loader that reports all faults at once, and the shipped files."""
