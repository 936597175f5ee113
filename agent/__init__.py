"""One process per node: reads the config and wires the parts together."""
