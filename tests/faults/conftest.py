"""Runs the selected rows in the background, a few at a time; each test waits for its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from .run import Result
from .schedule import Plan, carry_out

AT_ONCE = int(os.environ.get("FAULT_AT_ONCE", "3"))
SEED = int(os.environ.get("FAULT_SEED", "1"))


class Background(threading.Thread):
    """A loop of its own that carries plans out."""

    def __init__(self, every: list[Plan]) -> None:
        super().__init__(name="faults", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._results: dict[Plan, Future[Result]] = {plan: Future() for plan in every}
        self._work: asyncio.Task[None] | None = None

    def run(self) -> None:
        """Until all is done, or cancelled."""
        asyncio.set_event_loop(self._loop)
        self._work = self._loop.create_task(
            carry_out(
                self._results,
                seed=SEED,
                long=False,
                at_once=AT_ONCE,
                again=True,
                begun=lambda plan: None,
                done=lambda plan, result: self._results[plan].set_result(result),
            )
        )
        error: BaseException | None = None
        try:
            self._loop.run_until_complete(self._work)
        except (Exception, asyncio.CancelledError) as e:
            error = e
        for future in self._results.values():
            if not future.done():
                future.set_exception(error or RuntimeError("it was never carried out"))
        self._loop.close()

    def result(self, plan: Plan) -> Result:
        """Waits for what came of a plan."""
        return self._results[plan].result()

    def stop(self) -> None:
        """Cancels what still runs; its processes are ended."""
        # With its last result it may be closing its loop just now.
        if self.is_alive() and self._work:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._work.cancel)
        self.join(30)


@pytest.fixture(scope="session")
def result_of(request: pytest.FixtureRequest) -> Iterator[Callable[[Plan], Result]]:
    """What came of a plan."""
    selected = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]  # pyright: ignore
    background = Background([params["plan"] for params in selected if "plan" in params])  # pyright: ignore
    background.start()
    yield background.result
    background.stop()
