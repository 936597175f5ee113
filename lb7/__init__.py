"""The edge: HTTP and TCP from outside, to the live tasks of Marathon's apps, as their labels say."""
