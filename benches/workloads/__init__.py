"""The workloads: what each does, who can do it in which ways, and with how much."""

from .curves import CURVES
from .footprint import FOOTPRINT
from .latency import LATENCY
from .main import MAIN
from .model import Workload

__all__ = ["WORKLOADS", "Workload"]

WORKLOADS = [*MAIN, *LATENCY, *CURVES, *FOOTPRINT]
