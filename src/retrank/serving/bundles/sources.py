"""Where bundles come from: a folder, or a web server that serves one as files."""

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import httpx

from retrank.contract.errors import BundleError, ChecksumError, DownloadError, SourceError
from retrank.contract.files import current
from retrank.contract.manifest import SealedFile
from retrank.contract.rest import Rest, no_rest

_BLOCK_BYTES = 1 << 20
_TIMEOUT = httpx.Timeout(10.0, read=30.0)
_AS_IT_IS = {"accept-encoding": "identity"}
MAX_SOURCE_LENGTH = 2_000
Blocks = Iterator[bytes]


class BundleSource(Protocol):
    """One bundle somewhere else."""

    @property
    def folder(self) -> str:
        """The name of the folder that holds it; a bundle's own name where it lies as it was sealed."""
        ...

    @property
    def pinned(self) -> str:
        """What `parse_source` makes this very bundle of, also when a pointer that led to it has moved on.

        It may hold secrets, as the text of a URL does; `str` has none.

        Raises:
            DownloadError: there is none.
        """
        ...

    def read(self, file: str, limit: int) -> bytes:
        """Return a small file.

        Raises:
            DownloadError: it cannot be read, or holds more than `limit` bytes.
        """
        ...

    def copy(self, file: str, target: Path, sealed: SealedFile, rest: Rest = no_rest) -> None:
        """Write a file to `target`, as it was sealed; `rest` is called after every block.

        Raises:
            DownloadError: it cannot be read, or ends early.
            ChecksumError: it is larger than sealed, or its bytes are others.
        """
        ...


def parse_source(text: str) -> BundleSource:
    """Return the source that a folder, a `file:` URL, or an `http(s):` URL of a folder names.

    Raises:
        BundleError: anything else.
    """
    if len(text) > MAX_SOURCE_LENGTH:
        raise BundleError(f"a source has at most {MAX_SOURCE_LENGTH} characters, got {len(text)}")
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.hostname:
        return _Web(text.rstrip("/"))
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return _Folder(Path(unquote(parts.path)))
    if text.startswith("/"):
        return _Folder(Path(text))
    raise BundleError(f"source {text[:200]!r} is neither an absolute folder nor a file: or http(s): URL of one")


class _Folder:
    """A bundle directory, or a root whose `current` names one when it is read first: later ones are other bundles."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    @property
    def folder(self) -> str:
        return self._directory.name

    @property
    def pinned(self) -> str:
        return str(self._directory)

    @cached_property
    def _directory(self) -> Path:
        try:
            return current(self._path)
        except SourceError as error:
            raise DownloadError(f"no bundle to fetch: {error}") from error

    def read(self, file: str, limit: int) -> bytes:
        with self._blocks(file) as blocks:
            return _bounded(blocks, f"{self}/{file}", limit)

    def copy(self, file: str, target: Path, sealed: SealedFile, rest: Rest = no_rest) -> None:
        with self._blocks(file) as blocks:
            _write_sealed(blocks, target, sealed, f"{self}/{file}", rest)

    @contextmanager
    def _blocks(self, file: str) -> Iterator[Blocks]:
        try:
            path = self._directory / file
            if path.is_symlink():
                raise BundleError(f"{path} is a symbolic link; a bundle holds real files only")
            with path.open("rb") as stream:
                yield iter(lambda: stream.read(_BLOCK_BYTES), b"")
        except OSError as error:
            raise DownloadError(f"{self}/{file}: {error.strerror or error}; is a bundle there?") from error


class _Web:
    """A URL below which the files of a bundle lie."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        parts = urlsplit(self._url)
        return parts._replace(
            netloc=parts.netloc.rpartition("@")[2], query="", fragment=""
        ).geturl()  # no secrets in messages

    @property
    def folder(self) -> str:
        return unquote(urlsplit(self._url).path.rpartition("/")[2])

    @property
    def pinned(self) -> str:
        return self._url  # of the bundle itself: no pointer is followed on the web

    def read(self, file: str, limit: int) -> bytes:
        with self._blocks(file) as blocks:
            return _bounded(blocks, f"{self}/{file}", limit)

    def copy(self, file: str, target: Path, sealed: SealedFile, rest: Rest = no_rest) -> None:
        with self._blocks(file) as blocks:
            _write_sealed(blocks, target, sealed, f"{self}/{file}", rest)

    @contextmanager
    def _blocks(self, file: str) -> Iterator[Blocks]:
        """Stream a file as it is, without content coding; redirects are refused, they could lead anywhere."""
        parts = urlsplit(self._url)
        url = parts._replace(path=f"{parts.path}/{file}").geturl()
        try:
            with httpx.stream("GET", url, timeout=_TIMEOUT, headers=_AS_IT_IS, verify=_trusted()) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise DownloadError(f"{self}/{file}: answered {answer.status_code}; is a bundle there?")
                yield answer.iter_raw(_BLOCK_BYTES)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadError(f"{self}/{file}: {type(error).__name__} {error}; try again") from error


@cache
def _trusted() -> ssl.SSLContext:
    """Read the authorities once, it takes longer than a small file."""
    return httpx.create_ssl_context()


def _bounded(blocks: Blocks, where: str, limit: int) -> bytes:
    read = bytearray()
    for block in blocks:
        read += block
        if len(read) > limit:
            raise DownloadError(f"{where}: more than {limit:,} bytes, which no bundle has there")
    return bytes(read)


def _write_sealed(blocks: Blocks, target: Path, sealed: SealedFile, where: str, rest: Rest) -> None:
    """Write and hash in one pass; stop at the first byte too many."""
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as stream:
        for block in blocks:
            size += len(block)
            if size > sealed.size:
                raise ChecksumError(f"{where}: more than the {sealed.size:,} bytes it was sealed with; copy it again")
            digest.update(block)
            stream.write(block)
            rest()
    if size < sealed.size:
        raise DownloadError(f"{where}: ended after {size:,} of {sealed.size:,} bytes; try again")
    if digest.hexdigest() != sealed.sha256:
        raise ChecksumError(f"{where}: SHA-256 {digest.hexdigest()}, sealed as {sealed.sha256}; copy it again")
