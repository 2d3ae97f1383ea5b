"""Every row of the table of faults, in its short form, in both languages.

FAULT_SEED chooses the seed (default 1), FAULT_AT_ONCE how many rows run at a time (default 3). A row that breaks beside
others is run once more by itself, with the same seed: times and memory are measured on a machine that others use, too.
Only one that breaks again fails, and one that does not is told. A failure prints how to do it again.
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
@pytest.mark.parametrize("plan", plans(ROWS.values(), ("python", "node"), whole=False), ids=_id)
def test_row(plan: Plan, result_of: Callable[[Plan], Result], pytestconfig: pytest.Config) -> None:
    result = result_of(plan)
    if result.skipped:
        pytest.skip(result.skipped)
    if result.violations:
        pytest.fail(f"{result.beside}\nand by itself: {result}", pytrace=False)
    if result.beside:
        pytestconfig.get_terminal_writer().line(f"\nheld by itself, and not beside others: {result.beside}")
    print(result)
