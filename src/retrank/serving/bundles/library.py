"""Bundles on this host: a folder of immutable ones named by their hash, and how another one gets there.

A bundle is fetched into a hidden folder, each file against the size and SHA-256 that the manifest sealed, and becomes
visible by one rename. The manifest is read first and bounded; no other file is parsed here at all.
"""

import fcntl
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrank.contract.bundle import MANIFEST, bundle_id, describe, is_complete, parse_manifest, verify
from retrank.contract.errors import BundleError, ChecksumError, DownloadError
from retrank.contract.files import place, staging
from retrank.contract.manifest import Manifest
from retrank.contract.rest import Rest, no_rest
from retrank.serving.bundles.sources import BundleSource

MAX_MANIFEST_BYTES = 4 << 20
_ID = re.compile(r"^[0-9a-f]{16}$")
_LOCK = ".fetching"
_SPARE_BYTES = 64 << 20
_log = logging.getLogger(__name__)


class Library:
    """The bundles in one folder, shared by every process of the host."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        """Use a folder.

        Args:
            root: holds one folder per bundle.
            max_bytes: largest bundle that is fetched.
        """
        self.root = root
        self._max_bytes = max_bytes

    def path(self, name: str) -> Path:
        """Return the folder of a bundle, whether or not it exists.

        Raises:
            BundleError: the name is not that of a bundle.
        """
        if not _ID.match(name):
            raise BundleError(f"{name[:100]!r} is no bundle id; expected 16 hexadecimal digits")
        return self.root / name

    def __contains__(self, name: str) -> bool:
        """Tell whether a bundle lies here; that says nothing of its bytes."""
        return (self.path(name) / MANIFEST).is_file()

    def manifests(self) -> dict[str, Manifest]:
        """Return what each bundle that lies here says about itself, newest first; unreadable ones are left out."""
        found = {}
        for directory in self.root.iterdir() if self.root.is_dir() else ():
            if _ID.match(directory.name):
                try:
                    name, found_manifest = describe(directory)
                except BundleError:
                    continue
                found[name] = found_manifest
        return dict(sorted(found.items(), key=lambda pair: pair[1].created_at, reverse=True))

    def fetch(self, name: str, source: BundleSource, rest: Rest = no_rest) -> None:
        """Bring a bundle here and check every byte of it; fetches nothing when it lies here as it was sealed.

        One that is damaged is replaced; whoever has it open keeps the files that it was. One process of a host fetches
        at a time, and nobody waits while another one checks. `rest` is called between pieces of work.

        Raises:
            BundleError: the source holds another bundle, one that is too large, of another format, or changed.
            DownloadError: the source broke off or sends something else; nothing is left behind.
        """
        before = self._identity(name)
        if self._is_sound(name, rest):
            return
        with self._alone():
            if self._identity(name) == before:  # else another process has just fetched it
                self._fetch(name, source, rest)
        self.check(name, rest)

    def check(self, name: str, rest: Rest = no_rest) -> None:
        """Compare every file of a bundle with what was sealed; `rest` is called between pieces of work.

        Raises:
            BundleError: it is not here, or not as it was sealed.
        """
        if name not in self:
            raise BundleError(f"bundle {name} is not in {self.root}; stage it from where it is")
        verify(self.path(name), rest)

    def _identity(self, name: str) -> tuple[int, ...] | None:
        """Return what tells the folder of a bundle from one that takes its place; None when there is none."""
        try:
            found = self.path(name).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_ctime_ns

    def _is_sound(self, name: str, rest: Rest) -> bool:
        if name not in self:
            return False
        try:
            self.check(name, rest)
        except (BundleError, OSError) as error:  # OSError: another process replaces it, or the disk does not give it
            _log.warning("%s; fetching the bundle again", error)
            return False
        return True

    def _fetch(self, name: str, source: BundleSource, rest: Rest) -> None:
        found, raw, manifest = identify(source)
        if found != name:
            raise BundleError(f"{source} holds bundle {found} now, {name} was asked for; stage it again")
        self._check_room(manifest, source)
        with staging(self.root) as staged:
            (staged / MANIFEST).write_bytes(raw)
            for file, sealed in manifest.files.items():
                source.copy(file, staged / file, sealed, rest)
            with staging(self.root) as aside:
                if self.path(name).exists():
                    self.path(name).rename(aside / name)
                place(staged, self.root, name)

    def _check_room(self, manifest: Manifest, source: BundleSource) -> None:
        total = sum(sealed.size for sealed in manifest.files.values())
        if total > self._max_bytes:
            raise BundleError(
                f"{source}: {total:,} bytes, at most {self._max_bytes:,} are fetched; raise serving.bundles.max_bytes"
            )
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if total + _SPARE_BYTES > free:
            raise DownloadError(f"{source}: {total:,} bytes, {self.root} has {free:,} free; make room")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one process of this host fetch at a time; one that waited looks first whether the bundle is there now."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def identify(source: BundleSource) -> tuple[str, bytes, Manifest]:
    """Return name, bytes and content of a source's manifest.

    A folder may be called anything; one that is called like a bundle must hold that one, since a manifest with a byte
    changed is else the manifest of another bundle.

    Raises:
        BundleError: it is of another format, or lists files that no bundle has.
        ChecksumError: the folder is called like another bundle.
        DownloadError: it cannot be read, or is too large to be one.
    """
    raw = source.read(MANIFEST, MAX_MANIFEST_BYTES)
    manifest = parse_manifest(raw, f"{source}/{MANIFEST}")
    if not is_complete(manifest.files):
        raise BundleError(f"{source}: the manifest does not list the files of a bundle; was it written by hand?")
    name, folder = bundle_id(raw), source.folder
    if _ID.match(folder) and folder != name:
        raise ChecksumError(
            f"{source}/{MANIFEST}: its hash is {name} but the folder is called {folder}; the manifest was changed "
            "after sealing, copy the bundle again"
        )
    return name, raw, manifest
