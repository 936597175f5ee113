"""Virtual addresses to live tasks, in the kernel. Nothing is here yet."""
