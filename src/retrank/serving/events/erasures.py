"""Who was erased: the stream `erasures`, and the proof that compaction writes when it has done its part.

An erasure counts from the moment its record is durable. Compaction removes what had been published of the person, adds
a line to `erasures/proof.jsonl`, and from then on that line stands for the record.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from retrank.serving.events.folders import segments, write_whole, writers
from retrank.serving.events.records import Erasure, Erasures
from retrank.serving.events.segment import SegmentReader

_PROOF = "proof.jsonl"


class Proof(BaseModel):
    """A line of the proof: whose events were removed, when, and how many were found in which files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    person_sha256: str
    erased_us: int
    removed_at_us: int
    events_removed: int
    files_rewritten: list[str]

    @property
    def erasure(self) -> Erasure:
        """What was asked for."""
        return Erasure(tenant=self.tenant, person_sha256=self.person_sha256, erased_us=self.erased_us)


def ordered(directory: Path) -> list[Erasure]:
    """Return the erasures that are in the log.

    Raises:
        CorruptSegment: the log is damaged.
    """
    paths = [path for folder in writers(directory / "erasures") for path in segments(folder)]
    return [Erasure.model_validate_json(raw) for path in paths for raw in SegmentReader(path)]


def proofs(directory: Path) -> list[Proof]:
    """Return the lines of the proof, oldest first."""
    path = directory / "erasures" / _PROOF
    if not path.exists():
        return []
    return [Proof.model_validate_json(line) for line in path.read_text().splitlines()]


def add_proofs(directory: Path, lines: Sequence[Proof]) -> None:
    """Add lines that are not there yet."""
    there = proofs(directory)
    known = {line.erasure for line in there}
    new = [line for line in lines if line.erasure not in known]
    if new:
        (directory / "erasures").mkdir(parents=True, exist_ok=True)
        content = "".join(line.model_dump_json() + "\n" for line in [*there, *new])
        write_whole(directory / "erasures" / _PROOF, content.encode())


def newest(erasures: Iterable[Erasure]) -> Erasures:
    """Return the last erasure of each person."""
    found: dict[str, int] = {}
    for erasure in erasures:
        found[erasure.person_sha256] = max(erasure.erased_us, found.get(erasure.person_sha256, -1))
    return Erasures(found)


def read_erasures(directory: Path) -> Erasures:
    """Return everybody who was ever erased, and when last."""
    return newest([*ordered(directory), *(line.erasure for line in proofs(directory))])


def erasures_version(directory: Path) -> str:
    """Return something that changes whenever an erasure is added."""
    stream = directory / "erasures"
    paths = [*(path for folder in writers(stream) for path in segments(folder)), *stream.glob(_PROOF)]
    return " ".join(f"{path.parent.name}/{path.name}:{path.stat().st_size}" for path in paths)
