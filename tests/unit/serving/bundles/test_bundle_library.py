"""Bundles arrive whole and as they were sealed, or not at all."""

import fcntl
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from swap_world import names_of

from retrank.contract.bundle import ATTRIBUTE_WORDS, FILES, INDEX, MANIFEST, QUERY_ENCODER
from retrank.contract.errors import BundleError, ChecksumError, DownloadError, FormatError, RetrankError
from retrank.contract.manifest import SealedFile
from retrank.contract.rest import Rest, no_rest
from retrank.serving.bundles.library import Library, identify
from retrank.serving.bundles.sources import parse_source

LARGE = 1 << 30


class _Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; cuts one file short when told to."""

    cut: str | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        whole = source.read()
        outputfile.write(whole[: len(whole) // 2] if self.cut and self.path.endswith(self.cut) else whole)


@contextmanager
def _web(folder: Path, cut: str | None = None) -> Iterator[str]:
    handler = type("Handler", (_Files,), {"cut": cut})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def origin(three_bundles: Path, tmp_path: Path) -> Path:
    """Return a copy of bundle a that may be spoiled."""
    name = names_of(three_bundles)[0]
    return Path(shutil.copytree(three_bundles / name, tmp_path / "origin" / name))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library", max_bytes=LARGE)


def _left(library: Library) -> list[str]:
    return sorted(path.name for path in library.root.iterdir() if path.name != ".fetching")


@pytest.mark.parametrize("scheme", ["folder", "root", "file", "http"])
def test_a_bundle_is_fetched_from_every_kind_of_source(origin: Path, library: Library, scheme: str) -> None:
    (origin.parent / "current").write_text(origin.name)
    with _web(origin.parent) as url:
        text = {
            "folder": str(origin),
            "root": str(origin.parent),
            "file": origin.as_uri(),
            "http": f"{url}/{origin.name}/",
        }[scheme]
        source = parse_source(text)
        assert identify(source)[0] == origin.name
        library.fetch(origin.name, source)
    assert _left(library) == [origin.name]
    assert sorted(path.name for path in library.path(origin.name).iterdir()) == sorted([*FILES, MANIFEST])
    assert list(library.manifests()) == [origin.name]


@pytest.mark.parametrize("file", [*FILES, MANIFEST])
def test_a_source_with_any_byte_flipped_is_refused_and_leaves_nothing(
    origin: Path, library: Library, file: str
) -> None:
    raw = bytearray((origin / file).read_bytes())
    raw[int(np.random.default_rng(len(raw)).integers(len(raw)))] ^= 0xFF
    (origin / file).write_bytes(raw)
    with pytest.raises(RetrankError):
        library.fetch(origin.name, parse_source(str(origin)))
    assert _left(library) == []


@pytest.mark.parametrize("file", [INDEX, QUERY_ENCODER, ATTRIBUTE_WORDS])
def test_an_interrupted_download_leaves_nothing_and_may_be_repeated(origin: Path, library: Library, file: str) -> None:
    with _web(origin.parent, cut=file) as url, pytest.raises(DownloadError, match=file):
        library.fetch(origin.name, parse_source(f"{url}/{origin.name}"))
    assert _left(library) == []
    with _web(origin.parent) as url:
        library.fetch(origin.name, parse_source(f"{url}/{origin.name}"))
    assert origin.name in library


def test_a_file_longer_than_sealed_is_cut_off_at_the_first_byte_too_many(origin: Path, library: Library) -> None:
    with (origin / INDEX).open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ChecksumError, match="more than the"):
        library.fetch(origin.name, parse_source(str(origin)))
    assert _left(library) == []


def _spoil(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def test_a_bundle_that_was_spoiled_here_is_not_ready(origin: Path, library: Library) -> None:
    library.fetch(origin.name, parse_source(str(origin)))
    _spoil(library.path(origin.name) / INDEX)
    with pytest.raises(ChecksumError, match=INDEX):
        library.check(origin.name)


def test_a_bundle_that_was_spoiled_here_is_fetched_again_and_who_has_it_open_keeps_its_files(
    origin: Path, library: Library
) -> None:
    library.fetch(origin.name, parse_source(str(origin)))
    with (library.path(origin.name) / INDEX).open("r+b") as still_open:
        still_open.write(b"x")
        still_open.flush()
        library.fetch(origin.name, parse_source(str(origin)))
        assert still_open.seek(0) == 0
        assert still_open.read(1) == b"x"
    library.check(origin.name)
    assert _left(library) == [origin.name]


def test_a_spoiled_bundle_stays_where_it_is_when_its_source_is_no_better(origin: Path, library: Library) -> None:
    library.fetch(origin.name, parse_source(str(origin)))
    for one in (origin, library.path(origin.name)):
        _spoil(one / INDEX)
    with pytest.raises(ChecksumError, match=INDEX):
        library.fetch(origin.name, parse_source(str(origin)))
    assert _left(library) == [origin.name]


def _is_locked(library: Library) -> bool:
    library.root.mkdir(exist_ok=True)
    with (library.root / ".fetching").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_other_processes_may_fetch_while_one_checks_what_lies_here(origin: Path, library: Library) -> None:
    locked: list[bool] = []
    library.fetch(origin.name, parse_source(str(origin)), lambda: locked.append(_is_locked(library)))
    first = locked.index(False)
    assert all(locked[:first])  # while it is copied, by one process of the host
    assert not any(locked[first:])
    assert len(locked) - first >= first  # every file is read again
    locked.clear()
    library.fetch(origin.name, parse_source(str(origin)), lambda: locked.append(_is_locked(library)))
    assert locked
    assert not any(locked)


class Silent:
    """A source that gives nothing."""

    folder = pinned = "silent"

    def read(self, file: str, limit: int) -> bytes:
        raise DownloadError(file)

    def copy(self, file: str, target: Path, sealed: SealedFile, rest: Rest = no_rest) -> None:
        raise DownloadError(file)


@pytest.mark.parametrize("before", ["absent", "damaged"])
def test_what_another_process_fetched_meanwhile_is_checked_and_not_fetched_again(
    origin: Path, library: Library, before: str
) -> None:
    if before == "damaged":
        library.fetch(origin.name, parse_source(str(origin)))
        _spoil(library.path(origin.name) / INDEX)
    other = Library(library.root, max_bytes=LARGE)

    class Slow(Library):
        @contextmanager
        def _alone(self) -> Iterator[None]:
            other.fetch(origin.name, parse_source(str(origin)))  # it had the lock until now
            with super()._alone():
                yield

    Slow(library.root, max_bytes=LARGE).fetch(origin.name, Silent())
    library.check(origin.name)


def test_another_format_is_refused_before_any_other_file_is_read(origin: Path, library: Library) -> None:
    manifest = (origin / MANIFEST).read_text()
    (origin / MANIFEST).write_text(manifest.replace('"format_version": ', '"format_version": 9'))
    for name in FILES:
        (origin / name).unlink()
    with pytest.raises(FormatError, match="bundle format 9"):
        identify(parse_source(str(origin)))


def test_a_manifest_with_a_changed_byte_is_no_other_bundle_where_the_folder_bears_the_name(origin: Path) -> None:
    manifest = (origin / MANIFEST).read_text()
    (origin / MANIFEST).write_text(manifest.replace("tiny/", "tinx/", 1))
    with pytest.raises(ChecksumError, match=f"the folder is called {origin.name}"):
        identify(parse_source(str(origin)))
    with _web(origin.parent) as url, pytest.raises(ChecksumError, match=f"the folder is called {origin.name}"):
        identify(parse_source(f"{url}/{origin.name}"))
    elsewhere = origin.rename(origin.with_name("copied-by-hand"))
    assert identify(parse_source(str(elsewhere)))[0] != origin.name


def test_a_root_whose_current_moves_on_while_it_is_read_stays_the_bundle_it_was(
    three_bundles: Path, library: Library, tmp_path: Path
) -> None:
    root, (first, second, _) = tmp_path / "root", names_of(three_bundles)
    for name in (first, second):
        shutil.copytree(three_bundles / name, root / name)
    (root / "current").write_text(first)
    source = parse_source(str(root))
    manifest = source.read(MANIFEST, LARGE)
    (root / "current").write_text(second)
    assert identify(source)[:2] == (first, manifest)
    library.fetch(first, source)
    assert _left(library) == [first]
    assert identify(parse_source(str(root)))[0] == second


def test_a_source_that_changed_since_it_was_staged_is_refused(
    three_bundles: Path, origin: Path, library: Library
) -> None:
    with pytest.raises(BundleError, match="was asked for; stage it again"):
        library.fetch(names_of(three_bundles)[1], parse_source(str(origin)))


def test_a_bundle_beyond_the_limit_is_not_fetched(origin: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", max_bytes=1_000)
    with pytest.raises(BundleError, match=r"serving\.bundles\.max_bytes"):
        library.fetch(origin.name, parse_source(str(origin)))


def test_a_manifest_beyond_the_limit_is_not_read_to_its_end(origin: Path) -> None:
    with (origin / MANIFEST).open("r+b") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(DownloadError, match="no bundle has there"):
        identify(parse_source(str(origin)))


@pytest.mark.parametrize("text", ["", "ftp://host/x", "relative/folder", "http://", "file://elsewhere/x", "x" * 3_000])
def test_a_source_of_no_known_kind_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="source"):
        parse_source(text)


@pytest.mark.parametrize("name", ["../../etc", "current", "", "0123456789abcdeF"])
def test_only_bundle_ids_name_folders(library: Library, name: str) -> None:
    with pytest.raises(BundleError, match="no bundle id"):
        library.path(name)


def test_a_folder_without_a_bundle_says_so(library: Library, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is a bundle there"):
        identify(parse_source(str(tmp_path)))
    with pytest.raises(DownloadError, match="no such directory"):
        identify(parse_source(str(tmp_path / "nothing")))
    with _web(tmp_path) as url, pytest.raises(DownloadError, match="answered 404"):
        identify(parse_source(url))


def test_a_password_in_a_url_is_not_repeated(tmp_path: Path) -> None:
    with _web(tmp_path) as url, pytest.raises(DownloadError) as refused:
        identify(parse_source(url.replace("http://", "http://me:secret@")))
    assert "secret" not in str(refused.value)
