"""WireGuard: its netlink messages, a userspace interface's socket, and links."""
