"""A network as a graph: tracing, the facts of every edge, neurons in the place of activations."""
