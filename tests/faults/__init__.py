"""The fault rig: servers are killed, stalled and cut off while producers and workers run; a checker reads what is left.

Row by row: `python -m tests.faults --help`. Short, as tests: `pytest tests/faults`.
"""
