"""A network as a graph: traced, every edge with its facts, neurons in the place of activations."""
