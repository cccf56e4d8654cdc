"""Write docs/openapi.json and docs/openapi-admin.json, the descriptions of the two APIs that are under version control.

    python scripts/write_openapi.py

A test compares the files with what the routes say, so a change of an API is a change of its file as well.
"""

import json
import time
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from retrank.serving.picking import Picked
from retrank.serving.service import Backing, Service
from retrank.serving.telemetry.exposition import Exposition
from retrank.serving.web import admin, openapi
from retrank.serving.web.protection import Protection
from retrank.serving.web.routes import create_app

DOCS = Path(__file__).parents[1] / "docs"
TARGET, ADMIN_TARGET = DOCS / "openapi.json", DOCS / "openapi-admin.json"


def described() -> str:
    """Return the document of the service as text; routes are described without a bundle being open."""
    counted = Protection(exposition=Exposition(CollectorRegistry(), None, now=time.time))
    return _text(create_app(Service(_nothing, Backing.none()), protection=counted), openapi.PUBLIC)


def described_admin() -> str:
    """Return the document of the admin port as text; its routes are described without a fleet."""
    nobody = cast("Any", object())
    return _text(admin.create_admin_app(nobody, overlay=nobody, desk=nobody), admin.MESSAGES)


def _text(app: FastAPI, messages: openapi.Messages) -> str:
    return json.dumps(openapi.document(app, messages), indent=2) + "\n"


def _nothing(key: str | None) -> Picked:
    raise LookupError(f"no bundle is open to answer {key!r}")


if __name__ == "__main__":
    for target, text in ((TARGET, described()), (ADMIN_TARGET, described_admin())):
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
