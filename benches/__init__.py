"""Benchmarks: ours, the peers and the server's own limit, interleaved in one run. `make bench`."""
