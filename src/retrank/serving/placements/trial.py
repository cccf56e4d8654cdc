"""How far a change would reach: replicas answer requests of the last minutes again, without and with it, and count.

The requests stay where they were answered. Whoever asks writes one document, every replica adds its counts to it, and
only counts are ever shared. One question at a time; a replica works in small bites, so that real requests hardly wait.
"""

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from retrank.contract.api import SlateItem
from retrank.contract.errors import FormatError
from retrank.serving.live_rules import House
from retrank.serving.placements.shelf import ShelfRefused, parse
from retrank.serving.stores.protocol import Control, StoreUnavailable

DOCUMENT = "shelf-trial"
_ATTEMPTS = 20
_REST = 3.0
_SHARE = 0.8  # of the time there is; what is counted after somebody stopped waiting counts for nothing
_LONG_S = 2.0
"""How long a replica tries a change out once it has tried enough requests."""
_log = logging.getLogger(__name__)


class Effect(BaseModel):
    """What one replica counted, or all of them together.

    Attributes:
        sampled: requests answered again.
        slates: of these, how many got another slate.
        places: places that hold another item, in all of them.
        shown: places in all of them, as they are now.
        items_matched: items of the catalogue that the rule is about; 0 without a rule.
        items: items of the catalogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampled: int = 0
    slates: int = 0
    places: int = 0
    shown: int = 0
    items_matched: int = 0
    items: int = 0

    def plus(self, other: "Effect") -> "Effect":
        """Return both together; every replica has the same catalogue."""
        counts = {name: getattr(self, name) + getattr(other, name) for name in ("sampled", "slates", "places", "shown")}
        return Effect(
            **counts,
            items_matched=max(self.items_matched, other.items_matched),
            items=max(self.items, other.items),
        )


class Question(BaseModel):
    """What is asked: how slates would be with the proposed shelf, and what one of its rules is about.

    Attributes:
        id: names the question.
        tenant: whose shelf.
        proposed: the shelf with the change, as JSON.
        rule: id of the rule that is put, None for other changes.
        until: seconds since 1970; nobody waits for an answer after that.
        enough: requests that are tried however long they take, as far as there is time.
        max_items: share of the catalogue beyond which the rule is refused whatever slates do, so that none is tried.
        answers: counts by replica.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    proposed: JsonValue
    rule: str | None
    until: float
    enough: int = 20
    max_items: float = 1.0
    answers: dict[str, Effect] = {}


def ask(control: Control, question: Question, now: float) -> None:
    """Put a question to all replicas.

    Raises:
        ShelfRefused: another one is being answered.
    """
    for _ in range(_ATTEMPTS):  # a late answer to the question before may come between
        document = control.document(DOCUMENT)
        before = _parse(document.value)
        if before is not None and before.until > now:
            break
        if control.write(DOCUMENT, question.model_dump(mode="json"), document.version):
            return
    raise ShelfRefused("another change is being tried out right now; try again in a few seconds")


def answers(control: Control, question_id: str) -> dict[str, Effect]:
    """Return the answers so far."""
    found = _parse(control.document(DOCUMENT).value)
    return found.answers if found is not None and found.id == question_id else {}


def end(control: Control, question_id: str) -> None:
    """Let others ask: nobody waits for more answers."""
    for _ in range(_ATTEMPTS):
        document = control.document(DOCUMENT)
        found = _parse(document.value)
        if found is None or found.id != question_id:
            return
        if control.write(DOCUMENT, found.model_copy(update={"until": 0.0}).model_dump(mode="json"), document.version):
            return


class Pair(NamedTuple):
    """One request answered twice."""

    before: list[SlateItem]
    after: list[SlateItem]


class Rehearse(Protocol):
    """Answers requests of a tenant again."""

    def pairs(self, tenant: str, proposed: House) -> Iterator[Pair]:
        """Yield a pair per request, one when it is asked for."""
        ...

    def about(self, tenant: str, proposed: House, rule_id: str) -> tuple[int, int]:
        """Return how many items of the catalogue a rule is about, and how many there are."""
        ...


class Answerer:
    """Answers for one replica."""

    def __init__(
        self,
        control: Control,
        name: str,
        rehearse: Rehearse,
        *,
        now: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Follow the document.

        Args:
            control: holds the question.
            name: of this replica.
            rehearse: answers requests again.
            now: seconds since 1970.
            clock, sleep: monotonic seconds, and waiting for some.
        """
        self._control, self._name, self._rehearse = control, name, rehearse
        self._now, self._clock, self._sleep = now, clock, sleep
        self._answered: str | None = None

    def poll(self) -> None:
        """Answer the question, if there is a new one that somebody still waits for."""
        try:
            question = _parse(self._control.document(DOCUMENT).value)
        except StoreUnavailable:  # whoever reads rules says so
            return
        if question is None or question.id == self._answered or question.until <= self._now():
            return
        self._answered = question.id
        try:
            self._add(question.id, self._effect(question))
        except (StoreUnavailable, FormatError) as error:
            _log.warning("a change of placements could not be tried out: %s", error)

    def _effect(self, question: Question) -> Effect:
        began = self._now()
        stop_at = began + _SHARE * (question.until - began)
        proposed = parse(question.proposed).house()
        matched, items = (0, 0)
        if question.rule is not None:
            matched, items = self._rehearse.about(question.tenant, proposed, question.rule)
        if matched > question.max_items * items:
            return Effect(items_matched=matched, items=items)
        sampled = slates = places = shown = 0
        started = self._clock()
        for pair in self._rehearse.pairs(question.tenant, proposed):
            changed = _changed(pair)
            sampled, slates, places = sampled + 1, slates + (changed > 0), places + changed
            shown += len(pair.before)
            rest_s = min(_REST * (self._clock() - started), max(stop_at - self._now(), 0.0))
            after = self._now() + rest_s
            if after >= stop_at or (sampled >= question.enough and after >= began + _LONG_S):
                break
            self._sleep(rest_s)
            started = self._clock()
        return Effect(sampled=sampled, slates=slates, places=places, shown=shown, items_matched=matched, items=items)

    def _add(self, question_id: str, effect: Effect) -> None:
        for _ in range(_ATTEMPTS):
            document = self._control.document(DOCUMENT)
            question = _parse(document.value)
            if question is None or question.id != question_id:
                return
            said = question.model_copy(update={"answers": {**question.answers, self._name: effect}})
            if self._control.write(DOCUMENT, said.model_dump(mode="json"), document.version):
                return


def _changed(pair: Pair) -> int:
    """Count places that do not hold the same item any more."""
    before, after = ([item.item_id for item in slate] for slate in pair)
    same = sum(left == right for left, right in zip(before, after, strict=False))
    return max(len(before), len(after)) - same


def _parse(value: JsonValue) -> Question | None:
    """Return the question; None when there is none, or another version wrote it."""
    try:
        return None if value is None else Question.model_validate(value)
    except ValidationError:
        return None
