"""The other libraries: which there are, and how each gets a virtual environment of its own."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = ("rectools", "replay", "recbole")
TORCH = "torch==2.13.0"
_REQUIREMENTS = Path(__file__).parent / "requirements"


def install(folder: Path, peers: tuple[str, ...]) -> None:
    """Create `<folder>/<peer>` with torch first, so that no requirement chooses another build of it.

    Packages that pin what no longer exists are listed in `<peer>-no-deps.txt` and installed without their requirements,
    which then stand in `<peer>.txt`.
    """
    for peer in peers:
        home = folder / peer
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        print(f"{peer}: installing into {home}", flush=True)
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, TORCH, "-r", str(_REQUIREMENTS / f"{peer}.txt")], check=True)
        alone = _REQUIREMENTS / f"{peer}-no-deps.txt"
        if alone.exists():
            subprocess.run([*pip, "--no-deps", "-r", str(alone)], check=True)


def versions(folder: Path, peers: list[str]) -> dict[str, dict[str, str]]:
    """Return the versions that matter of each installed peer."""
    program = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in distributions()}))"
    )
    found = {}
    for peer in peers:
        done = subprocess.run(
            [str(folder / peer / "bin" / "python"), "-c", program], check=True, stdout=subprocess.PIPE, text=True
        )
        everything = json.loads(done.stdout)
        wanted = ("rectools", "replay-rec", "recbole", "torch", "numpy", "pytorch-lightning", "lightning", "implicit")
        found[peer] = {name: everything[name] for name in wanted if name in everything}
    return found
