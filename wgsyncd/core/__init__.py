"""The pure part of wgsyncd: values, and functions that decide what to do.

No function here reads a clock, a socket or a file, and none writes a log.
"""
