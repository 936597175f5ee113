"""Virtual addresses to live tasks, in the kernel or by a proxy."""
