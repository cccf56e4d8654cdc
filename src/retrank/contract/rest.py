"""Rests between pieces of work, for work that is done beside something more urgent in the same process."""

from collections.abc import Callable

Rest = Callable[[], None]
"""Called between pieces of work of a few milliseconds each; it may wait, so that others get their turn."""


def no_rest() -> None:
    """Go on at once: nobody waits for the processor."""
