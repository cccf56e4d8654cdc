"""`retrank keys`: create, list and revoke API keys in a key file. A secret is printed once and kept nowhere.

    retrank keys create keys.json --tenant shop --scopes read,ingest > key    # the key alone; what it is goes to stderr
    retrank keys list keys.json
    retrank keys revoke keys.json 3f2a9c1b7d40

Services that use the file follow within a second.
"""

import argparse
import fcntl
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from retrank.contract.errors import ConfigError
from retrank.serving.guard.caller import PERMISSIONS, Permission
from retrank.serving.guard.keys import (
    MAX_KEYS,
    KeyFile,
    KeyRecord,
    new_key,
    pepper_from,
    read_key_file,
    redacted,
    write_key_file,
)


def main(arguments: Sequence[str]) -> None:
    """Run one of the three.

    Raises:
        ConfigError: the file cannot be used, or an argument does not fit.
    """
    asked = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = asked.run
    run(asked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="retrank keys", description="API keys of the service")
    commands = parser.add_subparsers(required=True)
    create = commands.add_parser("create", help="make a key and print it once")
    create.add_argument("file", type=Path, help="key file; made when it is not there")
    create.add_argument("--tenant", default="default", help="namespace the key works in")
    create.add_argument("--scopes", default="read", help=f"comma-separated, of {', '.join(PERMISSIONS)}")
    create.set_defaults(run=_create)
    listing = commands.add_parser("list", help="show the keys, without their secrets")
    listing.add_argument("file", type=Path)
    listing.set_defaults(run=_list)
    revoke = commands.add_parser("revoke", help="stop a key from working")
    revoke.add_argument("file", type=Path)
    revoke.add_argument("id", help="as `retrank keys list` shows it")
    revoke.set_defaults(run=_revoke)
    return parser


def _create(asked: argparse.Namespace) -> None:
    scopes = frozenset(part.strip() for part in asked.scopes.split(",") if part.strip())
    unknown = scopes - set(PERMISSIONS)
    if unknown or not scopes:
        raise ConfigError(f"--scopes {asked.scopes!r}: expected some of {', '.join(PERMISSIONS)}, comma-separated")
    with _edited(asked.file) as keys:
        if len(keys) >= MAX_KEYS:
            raise ConfigError(f"key file {asked.file} holds {len(keys)} keys, the most there may be; use another file")
        try:
            made = new_key(
                asked.tenant,
                cast("frozenset[Permission]", scopes),
                pepper=pepper_from(os.environ),
                random=secrets.token_bytes,
                now=datetime.now(UTC),
            )
        except ValidationError as error:
            raise ConfigError(
                f"--tenant {asked.tenant!r}: expected lower-case letters, digits and dashes, 63 at most"
            ) from error
        keys.append(made.record)
    print(made.token)
    note = f"shown only this once; id {made.record.id}, tenant {asked.tenant}, scopes {_shown(made.record)}"
    print(note, file=sys.stderr)


def _list(asked: argparse.Namespace) -> None:
    print(f"{'id':<12}  {'tenant':<16} {'scopes':<18} {'created':<20} revoked")
    for key in read_key_file(asked.file).keys:
        revoked = f"{key.revoked_at:%Y-%m-%d %H:%M:%S}" if key.revoked_at else "-"
        print(f"{key.id}  {key.tenant:<16} {_shown(key):<18} {key.created_at:%Y-%m-%d %H:%M:%S}  {revoked}")


def _revoke(asked: argparse.Namespace) -> None:
    with _edited(asked.file) as keys:
        positions = [position for position, key in enumerate(keys) if key.id == asked.id]
        if not positions:
            raise ConfigError(f"key file {asked.file} has no key {redacted(asked.id)[:40]!r}; see `retrank keys list`")
        key = keys[positions[0]]
        keys[positions[0]] = key.model_copy(update={"revoked_at": key.revoked_at or datetime.now(UTC)})
    print(f"revoked {asked.id}")


@contextmanager
def _edited(path: Path) -> Iterator[list[KeyRecord]]:
    """Read a key file, let it be changed, and write it; two commands at once take turns."""
    if not path.parent.is_dir():
        raise ConfigError(f"key file {path}: there is no folder {path.parent}")
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(read_key_file(path).keys) if path.exists() else []
        yield keys
        write_key_file(path, KeyFile(keys=tuple(keys)))
    finally:
        os.close(lock)


def _shown(key: KeyRecord) -> str:
    return ",".join(permission for permission in PERMISSIONS if permission in key.scopes)
