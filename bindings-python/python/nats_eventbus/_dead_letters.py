"""Dead letters: listed, replayed to their one group, discarded."""

from __future__ import annotations

from collections.abc import AsyncIterator

from . import _native

__all__ = ["DeadLetters"]


class DeadLetters:
    """The dead letters of a topic and a group, oldest first. Made by :meth:`Bus.dead_letters`.

    async for letter in bus.dead_letters("opencoze_knowledge", group="cg_knowledge"):
        print(letter.reason, letter.json())
        await letter.replay()
    """

    def __init__(self, native: _native.DeadLetters) -> None:
        self._native = native

    @property
    def topic(self) -> str:
        """The topic, with its wildcards."""
        return self._native.topic

    @property
    def group(self) -> str:
        """The group that could not handle them."""
        return self._native.group

    async def __aiter__(self) -> AsyncIterator[_native.DeadLetter]:
        # What is replayed and fails again is another letter: not of this listing.
        position, last = 0, await self._native.last()
        while position < last and (letter := await self._native.next_after(position)):
            position = letter.position
            if position <= last:
                yield letter

    async def replay(self) -> int:
        """Sends all letters there are now to their group again; how many. The first that fails ends it.

        No other group sees them. A consumer of the group receives each as the message it was, with a new count of
        attempts; workers on other clients do not see replays.
        """
        return await self._native.replay()

    async def discard(self) -> int:
        """Removes all letters there are now; how many."""
        return await self._native.discard()

    def __repr__(self) -> str:
        return f"<DeadLetters topic={self.topic!r} group={self.group!r}>"
