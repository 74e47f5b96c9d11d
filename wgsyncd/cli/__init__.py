"""The command line: one file a command, and the wiring that names the concrete store and data plane."""
