"""Programs that tests of processes run."""
