"""The node's resolver: other names from upstreams, with a cache, beside the cluster's own names."""
