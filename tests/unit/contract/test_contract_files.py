"""Versions behind a pointer: the old one or the new one, never a mixture."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrank.contract.errors import SourceError
from retrank.contract.files import POINTER, current, point_at, publish, sha256_of, staging


def _version(root: Path, name: str, content: str = "x") -> Path:
    with staging(root) as staged:
        (staged / "file").write_text(content)
        return publish(staged, root, name)


def _listing(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir())


def test_a_published_version_is_current_and_nothing_else_is_left(tmp_path: Path) -> None:
    _version(tmp_path, "one")
    assert current(tmp_path) == tmp_path / "one"
    assert _listing(tmp_path) == ["current", "one"]


def test_a_second_version_replaces_the_first_as_current_and_keeps_it(tmp_path: Path) -> None:
    _version(tmp_path, "one")
    _version(tmp_path, "two")
    assert current(tmp_path) == tmp_path / "two"
    assert _listing(tmp_path) == ["current", "one", "two"]
    point_at(tmp_path, "one")
    assert current(tmp_path) == tmp_path / "one"


def test_an_equal_version_is_kept_and_pointed_at(tmp_path: Path) -> None:
    _version(tmp_path, "one", "first")
    _version(tmp_path, "two")
    _version(tmp_path, "one", "second")
    assert (current(tmp_path) / "file").read_text() == "first"


def test_a_failing_writer_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path) as staged:
            (staged / "half").write_text("written")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert _listing(tmp_path) == []


def test_a_folder_without_pointer_is_the_version_itself(tmp_path: Path) -> None:
    assert current(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["", ".", "..", "gone", "../elsewhere", "/etc", "a/b", "\0"])
def test_a_pointer_that_leads_nowhere_or_outside_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (root / POINTER).write_text(name)
    with pytest.raises(SourceError, match="not a directory beside it"):
        current(root)


def test_a_pointer_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / POINTER).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="not a directory beside it"):
        current(tmp_path)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such directory"):
        current(tmp_path / "nowhere")


def test_sha256_is_the_published_one() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "abc"
        path.write_bytes(b"abc")
        # FIPS 180-2, appendix B.1
        assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@settings(max_examples=10)  # every publish waits for the disk
@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=8)), min_size=1, max_size=6))
def test_after_any_run_of_publishes_the_last_name_is_current(steps: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        first: dict[str, bytes] = {}
        for name, content in steps:
            with staging(root) as staged:
                (staged / "file").write_bytes(content)
                publish(staged, root, name)
            first.setdefault(name, content)
            assert current(root).name == name
            assert (current(root) / "file").read_bytes() == first[name]
        assert _listing(root) == sorted([*first, POINTER])
