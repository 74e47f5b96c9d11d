"""One cycle: gather, decide, act. No socket, thread, signal or SQL statement is used here."""
