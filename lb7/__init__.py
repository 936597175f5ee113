"""The edge: HTTP in, tasks out, and the signal that scales them. Nothing is here yet."""
