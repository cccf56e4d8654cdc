"""What operators do to placements and rules: read them, change them, and see first how far a change would reach."""

from collections.abc import Callable, Collection
from functools import reduce
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from retrank.contract.placement_rules import PlacementDefaults, Rule
from retrank.serving.placements import remarks, trial
from retrank.serving.placements import shelf as shelves
from retrank.serving.placements.shelf import Change, Edit, Shelf, ShelfRefused
from retrank.serving.placements.trial import Effect, Question
from retrank.serving.stores.protocol import DEFAULT_TENANT, Control
from retrank.serving.swap_settings import BlastSettings

_POLL_S = 0.1


class Blast(BaseModel):
    """How far a change reaches: counts over all replicas that answered (`Effect`), of those that are alive.

    `beyond` says in words which bound it exceeds; None when it stays within all of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int
    answered: int
    effect: Effect
    beyond: str | None


class ShelfOutcome(BaseModel):
    """The shelf after a change, which was not made in a dry run; how far it reaches, and what may not be meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shelf: Shelf
    dry_run: bool
    blast: Blast
    warnings: tuple[str, ...] = ()


class Who(NamedTuple):
    """Who changes what: the tenant whose shelf it is, who says so, and the id of their key."""

    tenant: str
    by: str
    key: str | None


class Time(NamedTuple):
    """Seconds since 1970, monotonic seconds, and waiting for some."""

    now: Callable[[], float]
    clock: Callable[[], float]
    sleep: Callable[[float], None]


class ShelfDesk:
    """Acts on the shelves of one control store."""

    def __init__(
        self,
        control: Control,
        settings: BlastSettings,
        *,
        alive: Callable[[], int],
        new_id: Callable[[], str],
        time: Time,
        tenants: Callable[[], Collection[str]] = lambda: (DEFAULT_TENANT,),
    ) -> None:
        """Act through a control store.

        Args:
            control: of the service.
            settings: bounds of what may change without force.
            alive: how many replicas answer.
            new_id: names a question.
            time: to wait for answers.
            tenants: those that requests can be of.
        """
        self._tenants = tenants
        self._control, self._settings = control, settings
        self._alive, self._new_id, self._time = alive, new_id, time

    def shelf(self, tenant: str) -> Shelf:
        """Return what is there."""
        return shelves.read(self._control, tenant).shelf

    def put_rule(self, rule: Rule, who: Who, *, dry_run: bool, force: bool) -> ShelfOutcome:
        """Put a rule.

        Raises:
            ShelfRefused: it would change more than the settings allow, nobody could tell, or there is no room for it.
        """
        line = Change(at=self._time.now(), by=who.by, key=who.key, action="put rule", id=rule.id, forced=force)
        return self._change(who, lambda shelf: shelf.with_rule(rule), line, dry_run=dry_run, rule=rule)

    def drop_rule(self, rule_id: str, who: Who, *, dry_run: bool, force: bool) -> ShelfOutcome:
        """Drop a rule.

        Raises:
            ShelfRefused: as `put_rule`, or there is no such rule.
        """
        line = Change(at=self._time.now(), by=who.by, key=who.key, action="drop rule", id=rule_id, forced=force)
        return self._change(who, lambda shelf: shelf.without_rule(rule_id), line, dry_run=dry_run)

    def put_placement(self, placement: PlacementDefaults, who: Who, *, dry_run: bool, force: bool) -> ShelfOutcome:
        """Put the defaults of a placement.

        Raises:
            ShelfRefused: as `put_rule`.
        """
        name = placement.name
        line = Change(at=self._time.now(), by=who.by, key=who.key, action="put placement", id=name, forced=force)
        return self._change(who, lambda shelf: shelf.with_placement(placement), line, dry_run=dry_run)

    def drop_placement(self, name: str, who: Who, *, dry_run: bool, force: bool) -> ShelfOutcome:
        """Drop the defaults of a placement.

        Raises:
            ShelfRefused: as `put_rule`, or there is no such placement.
        """
        line = Change(at=self._time.now(), by=who.by, key=who.key, action="drop placement", id=name, forced=force)
        return self._change(who, lambda shelf: shelf.without_placement(name), line, dry_run=dry_run)

    def _change(self, who: Who, change: Edit, line: Change, *, dry_run: bool, rule: Rule | None = None) -> ShelfOutcome:
        proposed = change(self.shelf(who.tenant))
        try:
            blast = self._blast(who.tenant, proposed, rule, 1.0 if line.forced else self._settings.max_items)
        except ShelfRefused as busy:  # what is meant anyway waits for nobody
            if dry_run or not line.forced:
                raise
            blast = Blast(replicas=self._alive(), answered=0, effect=Effect(), beyond=str(busy))
        said = remarks.of_tenant(who.tenant, self._tenants())
        if rule is not None:
            said += remarks.of_rule(rule, blast.effect, self._time.now())
        if dry_run:
            return ShelfOutcome(shelf=proposed, dry_run=True, blast=blast, warnings=tuple(said))
        if blast.beyond is not None and not line.forced:
            raise ShelfRefused(f"{blast.beyond}; nothing was changed. Say force if that is meant")
        made = shelves.edit(self._control, who.tenant, lambda shelf: change(shelf).noted(line))
        return ShelfOutcome(shelf=made, dry_run=False, blast=blast, warnings=tuple(said))

    def _blast(self, tenant: str, proposed: Shelf, rule: Rule | None, max_items: float) -> Blast:
        replicas = self._alive()
        effects = self._effects(tenant, proposed, rule, replicas, max_items) if replicas else []
        total = reduce(Effect.plus, effects, Effect())
        beyond = self._beyond(total, rule)
        if len(effects) < replicas:
            waited_s = self._settings.wait_s
            beyond = beyond or f"{len(effects)} of {replicas} replicas said within {waited_s:g} s what would change"
        return Blast(replicas=replicas, answered=len(effects), effect=total, beyond=beyond)

    def _effects(
        self, tenant: str, proposed: Shelf, rule: Rule | None, replicas: int, max_items: float
    ) -> list[Effect]:
        now, wait_s = self._time.now(), self._settings.wait_s
        if rule is not None:  # one that begins later is tried out as if it had begun
            proposed = proposed.with_rule(rule.model_copy(update={"starts_at": None}))
        without_audit = proposed.model_copy(update={"audit": ()}).as_json()
        name = None if rule is None else rule.id
        question = Question(
            id=self._new_id(),
            tenant=tenant,
            proposed=without_audit,
            rule=name,
            until=now + wait_s,
            enough=self._settings.min_sample,
            max_items=max_items if rule is not None and rule.action == "block" else 1.0,
        )
        trial.ask(self._control, question, now)
        try:
            until = self._time.clock() + wait_s
            found = trial.answers(self._control, question.id)
            while len(found) < replicas and self._time.clock() < until:
                self._time.sleep(_POLL_S)
                found = trial.answers(self._control, question.id)
            return list(found.values())
        finally:
            trial.end(self._control, question.id)

    def _beyond(self, effect: Effect, rule: Rule | None) -> str | None:
        bounds = self._settings
        if effect.sampled >= bounds.min_sample and effect.slates > bounds.max_slates * effect.sampled:
            return (
                f"{effect.slates} of {effect.sampled} slates answered lately would change, at most "
                f"{bounds.max_slates:.0%} may"
            )
        blocks = rule is not None and rule.action == "block"
        if blocks and effect.items_matched > bounds.max_items * effect.items:
            meant = f"{effect.items_matched} of {effect.items} items would be blocked"
            return f"{meant}, at most {bounds.max_items:.0%} may be"
        return None
