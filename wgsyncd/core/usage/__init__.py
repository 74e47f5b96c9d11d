"""A counter of the kernel becomes bytes of a device."""
