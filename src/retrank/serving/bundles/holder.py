"""Which open bundle answers a request: one reference to one immutable snapshot, replaced whole.

A request picks once and keeps what it picked until its answer is out, so it never sees two bundles. The bundle it
picked is let go by Python's own reference count: when nothing serves it and the last request is done, its memory goes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

from retrank.serving.recommender import Recommender

Variant = Literal["active", "canary"]
_SALT_BYTES = 64
_BITS = 53  # of a float


class Picked(NamedTuple):
    """What answers one request."""

    recommender: Recommender
    variant: Variant


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers from now on.

    Attributes:
        active: answers everything the canary does not.
        canary: answers `percent` of the keys; None without a trial.
        percent: 0..100.
        salt: of the split.
        generation: of the desired state this carries out.
    """

    active: Recommender
    canary: Recommender | None = None
    percent: float = 0.0
    salt: str = ""
    generation: int = 0

    def pick(self, key: str) -> Picked:
        """Return what answers a key; the same everywhere and every time."""
        if self.canary is not None and share(key, self.salt) * 100 < self.percent:
            return Picked(self.canary, "canary")
        return Picked(self.active, "active")

    def variants(self) -> Iterator[Picked]:
        """Yield everything that answers."""
        yield Picked(self.active, "active")
        if self.canary is not None:
            yield Picked(self.canary, "canary")


class Holder:
    """The one mutable cell."""

    def __init__(self, serving: Serving) -> None:
        """Serve from the start: a holder never holds nothing."""
        self._serving = serving

    @property
    def serving(self) -> Serving:
        """The snapshot that answers now."""
        return self._serving

    def pick(self, key: str) -> Picked:
        """Return what answers a request; `key` decides about a canary, so it names the person where possible."""
        return self._serving.pick(key)

    def serve(self, serving: Serving) -> None:
        """Answer from another snapshot; requests under way keep what they picked."""
        self._serving = serving


def share(key: str, salt: str) -> float:
    """Return where a key falls in [0, 1): uniform over keys, stable across processes, independent for other salts."""
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8, key=salt.encode()[:_SALT_BYTES])
    return (int.from_bytes(digest.digest(), "big") >> (64 - _BITS)) / (1 << _BITS)
