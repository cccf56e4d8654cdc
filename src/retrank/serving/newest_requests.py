"""The newest requests, kept to be answered again: bounded in number and age, and forgotten with their person."""

from collections import deque
from collections.abc import Callable, Collection
from threading import Lock
from typing import Generic, NamedTuple, Protocol, TypeVar

from retrank.contract.api import RecommendRequest
from retrank.contract.events import person_key
from retrank.serving.stores.entries import tag

MAX_AGE_S = 900.0
"""How long a request is kept; as long as a profile that was last known, see `guard.profiles`."""


class Kept(Protocol):
    """What is kept: a request, whose it is, and perhaps more."""

    @property
    def tenant(self) -> str:
        """Namespace of the person."""
        ...

    @property
    def request(self) -> RecommendRequest:
        """What was asked."""
        ...


class Asked(NamedTuple):
    """A request of a tenant."""

    tenant: str
    request: RecommendRequest


One = TypeVar("One", bound=Kept)


class NewestRequests(Generic[One]):
    """Requests in the order in which they came. Safe to share between threads."""

    def __init__(self, max_kept: int, clock: Callable[[], float], max_age_s: float = MAX_AGE_S) -> None:
        """Start with none.

        Args:
            max_kept: how many are kept; beyond, the oldest makes room.
            clock: monotonic seconds.
            max_age_s: seconds after which one is forgotten.
        """
        self._clock, self._max_age_s = clock, max_age_s
        self._kept: deque[tuple[float, One]] = deque(maxlen=max_kept)
        self._lock = Lock()

    def note(self, one: One) -> None:
        """Keep one more."""
        with self._lock:
            self._kept.append((self._clock(), one))

    def newest(self) -> list[One]:
        """Return those that are kept, oldest first."""
        with self._lock:
            self._drop_old()
            return [one for _, one in self._kept]

    def forget(self, tags: Collection[str] | None = ()) -> None:
        """Drop what is too old, and the requests of some people.

        Args:
            tags: of persons and sessions, see `stores.entries.tag`; None is everybody.
        """
        with self._lock:
            self._drop_old()
            if tags is None:
                self._kept.clear()
            elif tags:
                left = [entry for entry in self._kept if _tags(entry[1]).isdisjoint(tags)]
                self._kept.clear()
                self._kept.extend(left)

    def _drop_old(self) -> None:
        since = self._clock() - self._max_age_s
        while self._kept and self._kept[0][0] < since:
            self._kept.popleft()


def _tags(one: Kept) -> set[str]:
    """Return the tags of the person and the session of a request."""
    request, session = one.request, one.request.session.id
    person = person_key(request.user_id, request.anonymous_id, session)
    return {tag("person", one.tenant, person), *(() if session is None else (tag("session", one.tenant, session),))}
