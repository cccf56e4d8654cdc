"""The replicas that follow one desired state: those that answer from the same library.

A control store may be shared by several services. Bundle ids mean something within one library only, so its folder
tells fleets apart: documents and heartbeats carry it in their names.
"""

from hashlib import blake2b
from pathlib import Path

from pydantic import JsonValue

from retrank.serving.stores.protocol import Control, Document


class Fleet:
    """The part of a control store that belongs to one library; a `Control` itself."""

    def __init__(self, control: Control, library: Path) -> None:
        """Look at a store through the eyes of one fleet."""
        self._control = control
        self._prefix = blake2b(str(library.resolve()).encode(), digest_size=6).hexdigest() + "/"

    def document(self, name: str) -> Document:
        """Return a document of this fleet."""
        return self._control.document(self._prefix + name)

    def write(self, name: str, value: JsonValue, expected: int, until: float | None = None) -> bool:
        """Replace a document of this fleet if its version is still `expected`; tell whether it was."""
        return self._control.write(self._prefix + name, value, expected, until)

    def beat(self, replica: str, status: JsonValue, ttl_s: float, now: float) -> None:
        """Say that a replica of this fleet is alive."""
        self._control.beat(self._prefix + replica, status, ttl_s, now)

    def beats(self, now: float) -> dict[str, JsonValue]:
        """Return the status of every replica of this fleet that is alive."""
        found = self._control.beats(now).items()
        return {name.removeprefix(self._prefix): status for name, status in found if name.startswith(self._prefix)}
