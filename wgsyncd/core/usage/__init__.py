"""Turns the kernel's counters into bytes of devices: backlog, calendar and posting."""
