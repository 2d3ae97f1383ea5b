"""Measures the structure of the repository: `python -m tests.house`."""
