"""`retrank ctl`: operate a running service over its admin port.

    retrank ctl status
    retrank ctl bundles
    retrank ctl stage SOURCE             a bundle folder, a file: or http(s): URL of one, or an id in the library
    retrank ctl unstage ID               hold it ready no longer; its files stay in the library
    retrank ctl activate ID [--dry-run]
    retrank ctl canary ID PERCENT        0 ends the trial
    retrank ctl rollback [--reason WHY]
    retrank ctl forget-changes TENANT VERSION    changes of items that every bundle in use holds
    retrank ctl placements [put NAME --k 12 --max-explore 0.2 | drop NAME]    what requests that name one inherit
    retrank ctl rules [put ID pin --placement home --items A B --place 1 | drop ID]    also boost, bury, block

`--wait SECONDS` returns when every replica is there (stage: holds the bundle; else: serves it), or fails; at once when
it was taken back or no replica can hold the bundle. `--json` prints what the service answered. Exit status: 0 done,
2 wrong words, 3 refused by the service, 4 it cannot be reached, 5 not there, or not in time.
"""

import argparse
import getpass
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import httpx

from retrank.contract.errors import RetrankError
from retrank.serving import ctl_shelf
from retrank.serving.ctl_tables import table
from retrank.serving.ctl_wait import is_there, refused, undone
from retrank.serving.ctl_words import percent, seconds
from retrank.serving.guard.keys import is_token, redacted

DEFAULT_URL = "http://127.0.0.1:8001"
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_POLL_S = 0.1
_LONGEST_LINE = 1_000
Answer = dict[str, Any]


class CtlError(RetrankError):
    """The service refused, was not reached, or did not get there in time. No key is in the message."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(redacted(message))
        self.exit_code = exit_code


def main(
    arguments: Sequence[str],
    *,
    say: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Carry out one command.

    Args:
        arguments: words after `retrank ctl`.
        say: prints a line.
        clock, sleep: monotonic seconds, and waiting for some.

    Raises:
        CtlError: see the exit statuses.
    """
    asked = _parser().parse_args(arguments)
    headers = {"authorization": f"Bearer {_key(asked.key_file)}"} if asked.key_file else {}
    with httpx.Client(base_url=asked.url, timeout=_TIMEOUT, headers=headers) as client:
        fleet = _Fleet(client, clock, sleep)
        act = ctl_shelf.act if asked.command in ctl_shelf.WORDS else _act
        answer = act(fleet, asked)
        if asked.wait:
            fleet.wait(asked.command, answer, asked.wait)
            answer = _act(fleet, asked) if asked.command in ("status", "bundles") else answer
    say(json.dumps(answer, indent=2) if asked.json else "\n".join(table(asked, answer)))


class _Fleet:
    """The admin routes."""

    def __init__(self, client: httpx.Client, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._client, self._clock, self._sleep = client, clock, sleep

    def get(self, path: str) -> Answer:
        return self._ask("GET", path)

    def order(self, action: str, of: str = "bundles", **body: Any) -> Answer:
        return self.put(f"/admin/v1/{of}:{action}", **body)

    def put(self, path: str, **body: Any) -> Answer:
        return self._ask("POST", path, json={"by": getpass.getuser(), **body})

    def wait(self, command: str, ordered: Answer, limit_s: float) -> None:
        """Return when every replica is where an order wants it; at once after a dry run, which wants nothing."""
        until = self._clock() + limit_s
        while not ordered.get("dry_run"):
            status = self.get("/admin/v1/status")
            if said := undone(command, ordered, status):
                raise CtlError(f"{command} was taken back, {said}", exit_code=5)
            if is_there(command, ordered, status):
                return
            if said := refused(command, ordered, status):
                raise CtlError(f"{command}: no replica can hold it: {said}", exit_code=5)
            if self._clock() >= until:
                raise CtlError(f"not on every replica after {limit_s:g} s; {_lagging(status)}", exit_code=5)
            self._sleep(_POLL_S)

    def _ask(self, method: str, path: str, **request: Any) -> Answer:
        try:
            answer = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise CtlError(
                f"{self._client.base_url} does not answer ({error}); is the service running, with its admin port "
                "there? Name it with --url",
                exit_code=4,
            ) from error
        try:
            body = answer.json()
        except ValueError as error:
            raise CtlError(f"{answer.url} answered {answer.status_code}, and not in JSON", exit_code=4) from error
        if answer.status_code != httpx.codes.OK:
            raise CtlError(str(body.get("detail", body)), exit_code=3)
        found: Answer = body
        return found


def _act(fleet: _Fleet, asked: argparse.Namespace) -> Answer:
    dry_run = getattr(asked, "dry_run", False)
    match asked.command:
        case "status" | "bundles":
            return fleet.get(f"/admin/v1/{asked.command}")
        case "stage":
            folder = Path(asked.source)
            source = str(folder.resolve()) if folder.is_dir() else asked.source
            return fleet.order("stage", source=source, dry_run=dry_run)
        case "activate" | "unstage":
            return fleet.order(asked.command, id=asked.id, dry_run=dry_run)
        case "canary":
            return fleet.order("canary", id=asked.id, percent=asked.percent, dry_run=dry_run)
        case "forget-changes":
            return fleet.order("forget", "items", tenant=asked.tenant, up_to=asked.version, dry_run=dry_run)
        case _:
            return fleet.order("rollback", reason=asked.reason, dry_run=dry_run)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CtlError(f"{message}; {self.format_usage().strip()}", exit_code=2)


def _parser() -> argparse.ArgumentParser:
    first, common = _common(), _common(default=argparse.SUPPRESS)  # after the command, only what is said there counts
    first.set_defaults(url=DEFAULT_URL, key_file=None, json=False, wait=0.0)
    edits = _Parser(add_help=False, parents=[common])
    edits.add_argument("--dry-run", action="store_true", help="check, and change nothing")
    parser = _Parser(prog="retrank ctl", parents=[first], description="Operate a running service over its admin port.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", parents=[common], help="what should serve, and what each replica runs")
    commands.add_parser("bundles", parents=[common], help="bundles, and what each is to the fleet")
    stage = commands.add_parser("stage", parents=[edits], help="fetch and check a bundle on every replica")
    stage.add_argument("source", help="folder, file: or http(s): URL of a bundle, or an id in the library")
    for word, what in (("unstage", "hold a bundle ready no longer"), ("activate", "swap to a bundle")):
        commands.add_parser(word, parents=[edits], help=what).add_argument("id")
    canary = commands.add_parser("canary", parents=[edits], help="try a bundle on a share of the traffic")
    canary.add_argument("id")
    canary.add_argument("percent", type=percent, help="0..100; 0 ends the trial")
    rollback = commands.add_parser("rollback", parents=[edits], help="end the canary, or go back one bundle")
    rollback.add_argument("--reason", default="", help="for the audit trail")
    forget = commands.add_parser("forget-changes", parents=[edits], help="drop changes of items that bundles now hold")
    forget.add_argument("tenant")
    forget.add_argument("version", type=int, help="the last one that every bundle in use holds, as its receipt said")
    ctl_shelf.add_words(commands, common, edits)
    return parser


def _common(**kind: Any) -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--url", help=f"address of the admin port, {DEFAULT_URL} by default", **kind)
    common.add_argument(
        "--key-file", type=Path, help="file whose first line is an API key with the scope admin", **kind
    )
    common.add_argument("--json", action="store_true", help="print the answer as JSON", **kind)
    common.add_argument("--wait", type=seconds, metavar="SECONDS", help="until every replica is there", **kind)
    return common


def _key(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            key = stream.readline(_LONGEST_LINE).strip()
    except OSError as error:
        raise CtlError(f"--key-file {path}: {error.strerror}", exit_code=2) from error
    if not is_token(key):
        raise CtlError(
            f"--key-file {path}: its first line, {len(key)} characters, is no API key, which is retrank_, 12 hex "
            "digits, _ and 43 letters; write one with `retrank keys create FILE --scopes admin > KEY_FILE`",
            exit_code=2,
        )
    return key


def _lagging(status: Answer) -> str:
    said = {error for one in status["replicas"].values() for error in one["errors"].values()}
    return "; ".join(sorted(said)) or "`retrank ctl status` shows who is behind"


if __name__ == "__main__":
    main(sys.argv[1:])
