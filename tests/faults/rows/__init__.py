"""The rows of the table of faults, one module each, by their numbers."""

from __future__ import annotations

from ..run import Row
from . import (
    r01_server_killed,
    r02_rolling_restart,
    r03_leaders_killed,
    r04_standing_still,
    r05_bad_network,
    r06_acks_dropped,
    r07_outage_beyond_the_window,
    r08_disconnected,
    r09_never_answered,
    r10_slower_than_ack_wait,
    r11_backlog,
    r12_bad_handlers,
    r13_poison,
    r14_worker_killed,
    r15_worker_terminated,
    r16_credentials,
    r17_tls,
    r18_limits,
    r19_permissions,
    r20_no_room,
    r21_no_stream,
    r22_durable,
    r23_python_processes,
    r24_node_processes,
    r25_versions,
)

ROWS: dict[int, Row] = {
    module.ROW.number: module.ROW
    for module in (
        r01_server_killed,
        r02_rolling_restart,
        r03_leaders_killed,
        r04_standing_still,
        r05_bad_network,
        r06_acks_dropped,
        r07_outage_beyond_the_window,
        r08_disconnected,
        r09_never_answered,
        r10_slower_than_ack_wait,
        r11_backlog,
        r12_bad_handlers,
        r13_poison,
        r14_worker_killed,
        r15_worker_terminated,
        r16_credentials,
        r17_tls,
        r18_limits,
        r19_permissions,
        r20_no_room,
        r21_no_stream,
        r22_durable,
        r23_python_processes,
        r24_node_processes,
        r25_versions,
    )
}
