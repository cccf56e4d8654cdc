"""What `retrank ctl --wait` waits for, and when there is nothing left to wait for. Reads answers, asks nobody."""

from typing import Any

Answer = dict[str, Any]
_SWAPS = ("activate", "canary", "rollback")
_UNDOING = ("refuse", "rollback")


def is_there(command: str, ordered: Answer, status: Answer) -> bool:
    """Say whether every replica is where an order wants it.

    Args:
        command: the word after `retrank ctl`.
        ordered: what the service answered to it.
        status: of the fleet, later.
    """
    replicas = status["replicas"].values()
    if command == "stage":
        staged = ordered["desired"]["staged"][-1]["id"]
        return bool(replicas) and all(staged in (*one["verified"], *one["resident"]) for one in replicas)
    return bool(status["converged"]) and (command not in _SWAPS or _holds(ordered["desired"], status["desired"]))


def undone(command: str, ordered: Answer, status: Answer) -> str | None:
    """Say who took an order back and why; None while the fleet should still serve what it says. Arguments as above."""
    if command not in _SWAPS or status["desired"] is None:
        return None
    wanted, now = ordered["desired"], status["desired"]
    if now["generation"] <= wanted["generation"] or _answering(now) == _answering(wanted):
        return None
    audit, order = now["audit"], wanted["audit"][-1]
    later = audit[audit.index(order) + 1 :] if order in audit else audit
    lines = [line for line in later if line["action"] not in ("stage", "unstage")]
    said = next((line for line in lines if line["action"] in _UNDOING), lines[-1] if lines else None)
    if said is None:
        return f"by changes that the audit trail no longer holds; active is {now['active']}"
    why = f": {said['reason']}" if said["reason"] else ""
    return f"{said['action']} of {said['id']} by {said['by']}{why}; active is {now['active']}"


def refused(command: str, ordered: Answer, status: Answer) -> str | None:
    """Say why no replica can hold what was to be staged, once each has tried; None while one may. Arguments as above.

    They try again every few seconds, but what nobody could fetch or believe is for an operator to look at.
    """
    replicas = status["replicas"].values()
    if command != "stage" or not replicas:
        return None
    order, name = ordered["desired"]["audit"][-1], ordered["desired"]["staged"][-1]["id"]
    if any(one.get("errors_at", {}).get(name, -1.0) < order["at"] for one in replicas):
        return None
    return "; ".join(sorted({one["errors"][name] for one in replicas}))


def _holds(wanted: Answer, now: Answer) -> bool:
    return bool(now["generation"] >= wanted["generation"]) and _answering(now) == _answering(wanted)


def _answering(desired: Answer) -> tuple[str, str | None]:
    return desired["active"], desired["canary"] and desired["canary"]["id"]
