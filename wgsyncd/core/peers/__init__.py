"""The way from device rows to WireGuard peers: validation, plan, guard and audit."""
