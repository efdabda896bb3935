"""Between nodes: what carries publications to other nodes, and what judges occupancy across them."""
