"""What the command line says, for every case."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Settings of a run.

    Attributes:
        peers: names of the other libraries that take part.
        peers_dir: folder of their virtual environments.
        rounds: timed rounds of each contestant, >= 1; one more comes first and is not counted.
        threads: CPU threads of each contestant.
        sequences: file with 'user item' per line to train on; None = the made-up world.
        users: users of the made-up world.
        scratch: folder for arrays and logs.
        tiny: sizes at which every case takes seconds, to see that it works; the figures mean nothing.
    """

    peers: tuple[str, ...]
    peers_dir: Path
    rounds: int
    threads: int
    sequences: Path | None
    users: int
    scratch: Path
    tiny: bool = False

    @property
    def world_size(self) -> tuple[int, int]:
        """Users and items of the made-up world."""
        return (60, 120) if self.tiny else (self.users, 3_416)

    def python_of(self, peer: str) -> Path:
        """Interpreter of a peer."""
        return (self.peers_dir / peer / "bin" / "python").absolute()

    def installed(self, candidates: tuple[str, ...]) -> list[str]:
        """Those of the peers asked for that can take part in a case."""
        return [peer for peer in candidates if peer in self.peers and self.python_of(peer).exists()]
