"""Many runs on one machine: a few at a time, those that need it for themselves alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from .children import Language
from .run import Result, Row, name, run


@dataclass(frozen=True)
class Plan:
    """A run to come."""

    row: Row
    case: str
    language: Language

    @property
    def name(self) -> str:
        """Row, case and language."""
        return name(self.row, self.case, self.language)


def plans(rows: Iterable[Row], languages: Iterable[Language], *, whole: bool) -> list[Plan]:
    """Every case of every row in every language it is about, or what the short form has of them; crowds last."""
    given = list(languages)
    every = [Plan(row, case, language) for row in rows for case in row.cases for language in given]
    about = [p for p in every if p.language in p.row.languages]
    chosen = [p for p in about if whole or p.row.short is None or (p.case, p.language) in p.row.short]
    return sorted(chosen, key=lambda plan: plan.row.crowd)


async def carry_out(
    every: Iterable[Plan],
    *,
    seed: int,
    long: bool,
    at_once: int,
    keep: bool = False,
    again: bool = False,
    begun: Callable[[Plan], None],
    done: Callable[[Plan, Result], None],
) -> None:
    """Carries plans out, `at_once` at a time, and tells of each.

    ``again``: one that breaks beside others is carried out once more by itself, and that is its result.
    """
    places = asyncio.Semaphore(at_once)
    crowds = asyncio.Lock()

    async def once(plan: Plan, *, alone: bool) -> Result:
        async with AsyncExitStack() as held:
            if alone:
                # One crowd after the other collects all places.
                await held.enter_async_context(crowds)
                for _ in range(at_once):
                    await held.enter_async_context(places)
            else:
                await held.enter_async_context(places)
            begun(plan)
            return await run(plan.row, seed=seed, long=long, language=plan.language, case=plan.case, keep=keep)

    async def one(plan: Plan) -> None:
        result = await once(plan, alone=plan.row.crowd)
        if again and result.violations:
            result = replace(await once(plan, alone=True), beside=result)
        done(plan, result)

    async with asyncio.TaskGroup() as group:
        for plan in every:
            group.create_task(one(plan))
