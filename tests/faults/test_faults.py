"""Every row of the table of faults, in its short form, in both languages.

FAULT_SEED chooses the seed (default 1), FAULT_AT_ONCE how many rows run at a time (default 3). A failure prints how to
do it again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .rows import ROWS
from .run import Result
from .schedule import Plan, plans


def _id(plan: Plan) -> str:
    return "-".join(filter(None, (str(plan.row.number), plan.case.replace(" ", "_"), plan.language)))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("plan", plans(ROWS.values(), ("python", "node")), ids=_id)
def test_row(plan: Plan, result_of: Callable[[Plan], Result]) -> None:
    result = result_of(plan)
    if result.violations:
        pytest.fail(str(result), pytrace=False)
    print(result)
