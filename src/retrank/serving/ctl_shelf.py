"""The words of `retrank ctl` about placements and rules: what to ask the service, and how to show what it says."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from retrank.serving.ctl_words import json_text, number

Answer = dict[str, Any]
WORDS = ("placements", "rules")
_ACTIONS = ("pin", "boost", "bury", "block")
_CHANGES_SHOWN = 5


class Asks(Protocol):
    """The admin routes, as far as they are needed here."""

    def get(self, path: str) -> Answer:
        """Read."""
        ...

    def put(self, path: str, **body: Any) -> Answer:
        """Change."""
        ...


def add_words(commands: Any, common: argparse.ArgumentParser, edits: argparse.ArgumentParser) -> None:
    """Add `placements` and `rules` with what can be done to them."""
    whose = type(common)(add_help=False)
    whose.add_argument(
        "--tenant", default=argparse.SUPPRESS, help="whose; by default that of the key, `default` without"
    )
    change = type(common)(add_help=False, parents=[edits, whose])
    change.add_argument("--force", action="store_true", help="although it changes more than the settings allow")
    for word, what in (("placements", "defaults of requests, by placement"), ("rules", "what is pinned, boosted, ...")):
        acts = commands.add_parser(word, parents=[common, whose], help=what).add_subparsers(dest="act")
        put = acts.add_parser("put", parents=[change], help="add or replace one")
        put.add_argument("id", help="its name")
        (_describe_placement if word == "placements" else _describe_rule)(put)
        put.add_argument("--filter", type=json_text, help="expression as JSON, see serving/README.md")
        put.add_argument("--note", help="for people")
        acts.add_parser("drop", parents=[change], help="end one").add_argument("id")


def act(asks: Asks, asked: argparse.Namespace) -> Answer:
    """Ask the service."""
    whose = {"tenant": asked.tenant} if "tenant" in asked else {}  # else the service takes that of the key
    if asked.act is None:
        query = f"?{urlencode(whose)}" if whose else ""
        return asks.get(f"/admin/v1/{asked.command}{query}")
    said: dict[str, Any] = {**whose, "dry_run": asked.dry_run, "force": asked.force}
    rules = asked.command == "rules"
    if asked.act == "drop":
        return asks.put(f"/admin/v1/{asked.command}:drop", **{"id" if rules else "name": asked.id}, **said)
    fields = _RULE if rules else _PLACEMENT
    given = {name: value for name in fields if (value := getattr(asked, name, None)) is not None}
    body = {"rule": {"id": asked.id, **given}} if rules else {"placement": {"name": asked.id, **given}}
    return asks.put(f"/admin/v1/{asked.command}", **body, **said)


_RULE = ("action", "placement", "items", "filter", "place", "strength", "starts_at", "ends_at", "note")
_PLACEMENT = ("k", "filter", "diversity", "explore", "max_explore", "note")


def _describe_rule(put: argparse.ArgumentParser) -> None:
    put.add_argument("action", choices=_ACTIONS)
    put.add_argument("--placement", help="where; everywhere by default")
    put.add_argument("--items", nargs="+", metavar="ITEM", help="which items")
    put.add_argument("--place", type=int, help="of pin: where the first item stands, from 1")
    put.add_argument("--strength", type=number, help="of boost: standard deviations of the scores")
    put.add_argument("--from", dest="starts_at", metavar="TIME", help="ISO 8601 with an offset, as 2030-01-31T08:00Z")
    put.add_argument("--until", dest="ends_at", metavar="TIME", help="the same; that moment excluded")


def _describe_placement(put: argparse.ArgumentParser) -> None:
    put.add_argument("--k", type=int, help="items of a slate")
    put.add_argument("--diversity", type=json_text, help="as in a request, JSON")
    put.add_argument("--explore", type=json_text, help="as in a request, JSON")
    put.add_argument("--max-explore", type=number, help="bound on the strength of exploration, 0..1")


def table(asked: argparse.Namespace, answer: Answer) -> list[str]:
    """Return what the service said, for people."""
    if asked.act is None:
        return _shelf(asked.command, answer)
    blast = answer["blast"]
    effect, said = blast["effect"], "would be" if answer["dry_run"] else "is"
    done = "dropped" if asked.act == "drop" else "put"
    rows = [f"{asked.command[:-1]} {asked.id} {said} {done}"]
    rows.append(
        f"of {effect['sampled']} slates answered lately {effect['slates']} change, in {effect['places']} of "
        f"{effect['shown']} places ({blast['answered']} of {blast['replicas']} replicas)"
    )
    if asked.command == "rules" and asked.act == "put":
        rows.append(f"it is about {effect['items_matched']} of {effect['items']} items")
    rows += [f"beyond the bounds: {blast['beyond']}"] if blast["beyond"] else []
    return [*rows, *(f"note: {warning}" for warning in answer["warnings"])]


def _shelf(word: str, answer: Answer) -> list[str]:
    if word == "placements":
        rows = [f"{'placement':<20} inherits"]
        rows += [f"{one['name']:<20} {_rest(one, 'name')}" for one in answer["placements"]]
    else:
        rows = [f"{'rule':<20} {'does':<6} {'where':<16} what"]
        rows += [
            f"{one['id']:<20} {one['action']:<6} {one['placement'] or 'everywhere':<16} "
            f"{_rest(one, 'id', 'action', 'placement')}"
            for one in answer["rules"]
        ]
    rows += ["", "latest changes"]
    for change in reversed(answer["audit"][-_CHANGES_SHOWN:]):
        at, key = datetime.fromtimestamp(change["at"], UTC), change["key"] or "none"
        forced = ", forced" if change["forced"] else ""
        rows.append(f"  {at:%Y-%m-%d %H:%M:%S}  {change['action']} {change['id']}  {change['by']}, key {key}{forced}")
    return rows


def _rest(one: Answer, *shown: str) -> str:
    left = {name: value for name, value in one.items() if name not in shown and value not in (None, "")}
    return json.dumps(left, ensure_ascii=False)
