"""The configuration: typed settings, a loader that reports every fault, and the shipped files."""
