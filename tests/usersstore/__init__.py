"""A second control plane, for tests alone: it shows that core and engine know no store.

Users own the devices. The ids are UUIDs, a device has several addresses, and the audit trail is JSON. There are no
activation deadlines, and the bytes are kept as days and buckets only.
"""
