"""The steps of a run. Each knows whether it is done, can be rehearsed, and can be done."""
