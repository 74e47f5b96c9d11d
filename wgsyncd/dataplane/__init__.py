"""What wgsyncd writes to the kernel: one folder for each kind of object."""
