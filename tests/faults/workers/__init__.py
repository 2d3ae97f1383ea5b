"""The processes that faults happen to: producers and workers, the same in Python and Node."""
