"""The steps of a run, each of which can tell whether it is done, be rehearsed, and be done."""
