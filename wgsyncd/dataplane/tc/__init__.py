"""The shaping of traffic in the kernel: links of kind ifb, with classes, leaves and filters of tc."""
