"""Write docs/openapi.json, the description of the API that is under version control.

    python scripts/write_openapi.py

A test compares the file with what the routes say, so a change of the API is a change of this file as well.
"""

import json
from pathlib import Path

from retrank.serving.picking import Picked
from retrank.serving.service import Backing, Service
from retrank.serving.web import openapi
from retrank.serving.web.routes import create_app

TARGET = Path(__file__).parents[1] / "docs" / "openapi.json"


def described() -> str:
    """Return the document as text; routes are described without a bundle being open."""
    return json.dumps(openapi.document(create_app(Service(_nothing, Backing.none()))), indent=2) + "\n"


def _nothing(key: str | None) -> Picked:
    raise LookupError(f"no bundle is open to answer {key!r}")


if __name__ == "__main__":
    TARGET.write_text(described(), encoding="utf-8")
    print(f"wrote {TARGET}")
