"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "benches"
BUILT = ROOT / "target" / "bench"
VENV = BUILT / "venv"
PYTHON = VENV / "bin" / "python"
NODE = BUILT / "node"
RUST = BUILT / "rust"
GO = BUILT / "go"
REPORT = BUILT / "report"
DOCS = ROOT / "docs"

LIMIT = RUST / "release" / "limit"
SERVER = VENV / "bin" / "nats-server"
