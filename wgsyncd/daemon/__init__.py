"""The daemon's life: schedule, signals, sockets, metrics, systemd."""
