"""What decides: pure functions over values. Nothing here reads a clock, a socket, a file or a log."""
