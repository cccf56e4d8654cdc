"""What the service remembers between requests, whichever store keeps it.

Every key lives in the namespace of a tenant. Item and user ids are raw strings here: a store outlives bundles, and rows
belong to one bundle only. Every collection is bounded, in size and, but for what must not be forgotten, in time.
Methods are synchronous and quick (a few round trips at most); they raise `StoreUnavailable` when the store cannot be
reached in time, `StoreFull` where they say so, and nothing else of their own.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from pydantic import JsonValue

from retrank.contract.errors import RetrankError

DEFAULT_TENANT = "default"
MAX_DOCUMENT_CHARS = 1 << 20
"""Of the JSON of one document, one status of a replica, or the attributes of one item."""


class StoreUnavailable(RetrankError):  # noqa: N818  (a state, not a mistake)
    """The store did not answer in time; what was asked may or may not have happened, and may be asked again."""


class StoreFull(RetrankError):  # noqa: N818  (a state, not a mistake)
    """The store holds as much as it may of something that must not be forgotten; nothing was changed."""


def json_text(value: JsonValue) -> str:
    """Return the JSON a store keeps of a value.

    Raises:
        StoreFull: it is longer than MAX_DOCUMENT_CHARS.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_DOCUMENT_CHARS:
        raise StoreFull(f"a document of {len(text):,} characters, at most {MAX_DOCUMENT_CHARS:,} are kept; shorten it")
    return text


class LiveEvent(NamedTuple):
    """What a store keeps of an event: ids, kind, and microseconds since the Unix epoch, UTC."""

    event_id: str
    kind: str
    item_id: str
    time_us: int
    session_id: str | None = None


class PersonEvent(NamedTuple):
    """An event and whose it is; `person` is made by `contract.events.person_key`."""

    person: str
    event: LiveEvent


class Profile(NamedTuple):
    """What is known of a person right now.

    Attributes:
        events: the newest ones, oldest first, each event once; of the person and of the session together, whoever acted
            in it (before logging in, for instance).
        seen: item id -> kind -> time in microseconds of the newest such event, of both too.
    """

    events: tuple[LiveEvent, ...]
    seen: Mapping[str, Mapping[str, int]]


NOBODY = Profile((), {})
"""The profile of somebody new."""


class Erased(NamedTuple):
    """Who was erased since a version, for those who keep profiles in memory.

    Attributes:
        version: of the newest erasure; 0 when there was none.
        tags: of the persons (`entries.tag`) and of the sessions they were in; None when it is not known of all of
            them: forget everybody.
    """

    version: int
    tags: tuple[str, ...] | None


class ItemChange(NamedTuple):
    """The newest word on one item since the bundle was sealed.

    Attributes:
        item_id: whose.
        version: grows with every change of the tenant's catalogue.
        deleted, available: whether it may be shown.
        attributes: display and filter attributes that replace those of the bundle, by name; they take the place of
            all that were stored before. None leaves those as they are.
    """

    item_id: str
    version: int
    deleted: bool
    available: bool
    attributes: Mapping[str, JsonValue] | None


class Document(NamedTuple):
    """A named piece of shared control state; version 0 means it was never written."""

    version: int
    value: JsonValue


class Profiles(Protocol):
    """Profiles, sessions and seen memory."""

    def apply(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Apply events, each at most once per person and `event_id` within DEDUP_DAYS.

        Returns:
            One flag per event: True when it was new, False when it had been applied before.
        """
        ...

    def known(self, tenant: str, events: Sequence[PersonEvent], now: float) -> list[bool]:
        """Tell which events were applied before; changes nothing."""
        ...

    def profile(self, tenant: str, person: str, session_id: str | None, now: float) -> Profile:
        """Return what is known of a person and of the session at hand; empty for somebody new."""
        ...

    def export(self, tenant: str, person: str) -> Iterator[Mapping[str, JsonValue]]:
        """Yield everything kept about a person."""
        ...

    def erase(self, tenant: str, person: str) -> int:
        """Forget a person, and leave word of it for `erased_since`; returns how many entries went."""
        ...

    def erased_since(self, version: int) -> Erased:
        """Return whom to forget since a version, of all tenants."""
        ...


class CatalogueOverlay(Protocol):
    """Changes of items that take effect before the next bundle."""

    def change_items(self, tenant: str, changes: Sequence[ItemChange]) -> int:
        """Store changes (their `version` is ignored) and return the tenant's new version.

        Raises:
            StoreFull: more items would have changed than the settings allow; seal a bundle, then `forget_changes`.
        """
        ...

    def item_changes(self, tenant: str, after: int) -> list[ItemChange]:
        """Return the newest state of every item changed after a version, by increasing version."""
        ...

    def forget_changes(self, tenant: str, up_to: int) -> int:
        """Drop the changes up to a version, once every bundle in use holds them; returns how many went."""
        ...

    def forgotten_changes(self, tenant: str) -> int:
        """Return the version up to which changes were dropped; 0 when none ever was."""
        ...


class Control(Protocol):
    """Shared control state of all replicas: desired state as documents, and who is alive."""

    def document(self, name: str) -> Document:
        """Return a document; version 0 and None when there is none."""
        ...

    def write(self, name: str, value: JsonValue, expected: int, until: float | None = None) -> bool:
        """Replace a document if its version is still `expected`; tell whether it was.

        Args:
            name: of the document.
            value: what it says now.
            expected: version it has, 0 when there is none.
            until: seconds since the Unix epoch; the document goes with the first `beat` of anybody after that, unless
                it is written again. None keeps it for good.

        Raises:
            StoreFull: its JSON is longer than MAX_DOCUMENT_CHARS.
        """
        ...

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        """Say that a replica is alive and what it runs, for `ttl_s` seconds; some of what has expired goes."""
        ...

    def beats(self, now: float) -> dict[str, JsonValue]:
        """Return the status of every replica that is alive."""
        ...


class StateStore(Profiles, CatalogueOverlay, Control, Protocol):
    """One store for all of it."""

    def ping(self) -> None:
        """Return when the store answers."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
