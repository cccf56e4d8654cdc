"""What `retrank ctl` prints of an answer, for people; the words about placements have tables of their own."""

import argparse
from datetime import UTC, datetime
from typing import Any

from retrank.serving import ctl_shelf

Answer = dict[str, Any]
_CHANGES_SHOWN = 5


def table(asked: argparse.Namespace, answer: Answer) -> list[str]:
    """Return what the service answered to a command, in lines."""
    if asked.command in ctl_shelf.WORDS:
        return ctl_shelf.table(asked, answer)
    if asked.command == "status":
        return _status(answer)
    if asked.command == "bundles":
        rows = [f"{'bundle':<16}  {'state':<12} {'ready on':>8}  {'created':<16}  model"]
        return rows + [
            f"{one['id']:<16}  {one['state']:<12} {one['ready_on']:>8}  {(one['created_at'] or '')[:16]:<16}  "
            f"{one['model'] or ''}"
            for one in answer["bundles"]
        ]
    if asked.command == "forget-changes":
        done = "would be" if answer["dry_run"] else "are"
        return [f"changes of {answer['forgotten']} items up to version {asked.version} {done} forgotten"]
    desired = answer["desired"]
    canary = desired["canary"]
    shown = f", canary {canary['id']} {canary['percent']:g} %" if canary else ""
    staged = f"staged {desired['staged'][-1]['id']}; " if asked.command == "stage" else ""
    said = "would be" if answer["dry_run"] else "is"
    done = f"{staged}active {said} {desired['active']}{shown}, for {answer['replicas']} replicas"
    return [done, *(f"note: {warning}" for warning in answer["warnings"])]


def _status(answer: Answer) -> list[str]:
    desired = answer["desired"]
    if desired is None:
        return ["no replica has started yet"]
    canary = desired["canary"]
    rows = [
        f"active {desired['active']}   previous {desired['previous'] or '-'}   "
        f"canary {canary['id'] + ' ' + format(canary['percent'], 'g') + ' %' if canary else '-'}   "
        f"{'converged' if answer['converged'] else 'NOT CONVERGED'}",
        "",
        f"{'replica':<28} {'serves':<16} {'generation':>10} {'answers':>8} {'p95 ms':>7} {'private MB':>10}  now",
    ]
    rows += [_replica(name, one, desired) for name, one in sorted(answer["replicas"].items())]
    rows += _new_items(answer["replicas"])
    rows += ["", "latest changes"]
    for change in reversed(desired["audit"][-_CHANGES_SHOWN:]):
        by = f"{change['by']}, key {change['key']}" if change.get("key") else change["by"]
        rows.append(f"  {_moment(change['at'])}  {change['action']:<8} {change['id']}  {by}  {change['reason']}")
    return rows


def _replica(name: str, one: Answer, desired: Answer) -> str:
    figures = one["figures"].get(one["active"], {"answers": 0, "p95_ms": 0.0})
    return (
        f"{name:<28} {one['active']:<16} {one['generation']:>10} {figures['answers']:>8} {figures['p95_ms']:>7.1f} "
        f"{one['memory']['private'] / 1e6:>10.0f}  {_now(one, desired)}"
    )


def _now(one: Answer, desired: Answer) -> str:
    """Say how a replica is: what it lacks, what it leaves alone; what went wrong and holds up nothing comes last."""
    if one["loading"]:
        return f"loading {one['loading']}"
    held = (*one["verified"], *one["resident"])
    wanted = {one["id"] for one in desired["staged"]} - set(held)
    if one["generation"] != desired["generation"]:
        wanted |= {desired["active"], *([desired["canary"]["id"]] if desired["canary"] else [])}
    alone = [
        f"{name} of {bundle} is left alone" for bundle, names in one.get("left_alone", {}).items() for name in names
    ]
    lacks = [_dated(one, bundle) for bundle in one["errors"] if bundle in wanted]
    past = [_dated(one, bundle) for bundle in one["errors"] if bundle not in wanted]
    now = "; ".join([*lacks, *alone]) or "ok"
    return f"{now} (earlier: {'; '.join(past)})" if past else now


def _dated(one: Answer, bundle: str) -> str:
    at = one.get("errors_at", {}).get(bundle)
    return one["errors"][bundle] if at is None else f"{_moment(at)} {one['errors'][bundle]}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def _new_items(replicas: Answer) -> list[str]:
    """Return a line on items that the bundles do not know, as the replica with the most of each kind counts them."""
    counts: dict[str, int] = {}
    for one in replicas.values():
        for state, count in one.get("new_items", {}).items():
            counts[state] = max(count, counts.get(state, 0))
    said = "   ".join(f"{state} {count}" for state, count in counts.items() if count or state == "offered")
    return ["", f"items newer than the bundle: {said}"] if any(counts.values()) else []
