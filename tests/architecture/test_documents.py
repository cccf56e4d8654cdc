"""Documents stay true: links lead somewhere, commands compose, figures carry their command."""

import re
import shlex
from pathlib import Path

import pytest

from retrank.cli import _COMMANDS, _PLAIN
from retrank.config import compose

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not {".venv", "node_modules", ".git"} & set(path.relative_to(ROOT).parts)
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _commands() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        for block in _BLOCK.findall(document.read_text()):
            joined = block.replace("\\\n", " ")
            found += [(_id(document), line) for line in joined.splitlines() if line.startswith("retrank ")]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_every_link_leads_somewhere(document: Path) -> None:
    targets = [link for link in _LINK.findall(document.read_text()) if "://" not in link]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize(("document", "command"), _commands())
def test_every_documented_command_composes(document: str, command: str) -> None:
    words = shlex.split(command.removesuffix("&").removesuffix("&& \\"), comments=True)
    name, overrides = words[1], [word for word in words[2:] if "=" in word and not word.startswith("--")]
    assert name in {*_COMMANDS, *_PLAIN}, document
    if name in _COMMANDS and "--config-dir" not in words and "--multirun" not in words:
        assert compose(name, overrides)


def test_the_readme_shows_two_commands_and_an_answer_on_its_first_screen() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:60])
    for expected in ("make demo", "make test", "![", "score"):
        assert expected in first_screen


def test_the_tree_in_the_readme_is_the_tree_on_disk() -> None:
    text = (ROOT / "README.md").read_text()
    block = text.split("<!-- tree -->")[1]
    named = re.findall(r"^([\w./-]+/)\s", block, flags=re.MULTILINE)
    assert named
    assert [name for name in named if not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_id)
def test_no_document_is_a_template(document: Path) -> None:
    assert re.findall(r"@[A-Z_]+@", document.read_text()) == []
