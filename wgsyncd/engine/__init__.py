"""The engine runs one cycle: gather, decide, act. It uses no socket, thread, signal or SQL."""
