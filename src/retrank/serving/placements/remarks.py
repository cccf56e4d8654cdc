"""What an operator should be told about a change that does what it says, and perhaps not what was meant."""

from collections.abc import Collection
from datetime import UTC, datetime

from retrank.contract.placement_rules import Rule
from retrank.serving.placements.trial import Effect

_SHOWN = 10


def of_tenant(tenant: str, known: Collection[str]) -> list[str]:
    """Remark on a tenant that nobody can ask for.

    Args:
        tenant: whose placements change.
        known: tenants that a request can be of.
    """
    if tenant in known:
        return []
    names = ", ".join(sorted(known)[:_SHOWN])
    return [f"no API key is of tenant {tenant!r}, so no request will meet this; there is: {names}"]


def of_rule(rule: Rule, effect: Effect, now: float) -> list[str]:
    """Remark on a rule that reaches nothing, less than it names, or never holds.

    Args:
        rule: the rule.
        effect: what replicas counted; without a catalogue nothing is known of its items.
        now: seconds since 1970.
    """
    said, named = [], len(set(rule.items or ()))
    if effect.items and not effect.items_matched:
        said.append(f"rule {rule.id!r} is about none of the {effect.items} items of the catalogue")
    elif effect.items and effect.items_matched < named:
        said.append(f"rule {rule.id!r} names {named} items, {effect.items_matched} of them are in the catalogue")
    if rule.ends_at is not None and rule.ends_at.timestamp() <= now:
        moment = datetime.fromtimestamp(now, UTC)
        said.append(f"rule {rule.id!r} ended at {rule.ends_at.isoformat()}, it is {moment:%Y-%m-%dT%H:%MZ}")
    return said
