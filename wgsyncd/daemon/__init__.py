"""The daemon around the engine: main loop, schedule, signals, sockets, metrics and systemd."""
