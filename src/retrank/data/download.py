"""Fetching one file over HTTP: resumed where it was cut, checked, and in place only when complete."""

import hashlib
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
from tqdm import tqdm

from retrank.contract.errors import DownloadError
from retrank.contract.files import sha256_of

_ATTEMPTS = 4
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteFile:
    """A file on a web server and what is known about its content.

    Attributes:
        url: where it is.
        sha256: expected SHA-256 in hex, or None when it is not known.
        md5_url: a file beside it that holds its MD5, as some publishers offer; used when `sha256` is None.
        timeout_s: seconds without a byte after which an attempt is given up.
        pause_s: seconds to wait before the second attempt, doubled before every further one.
    """

    url: str
    sha256: str | None = None
    md5_url: str | None = None
    timeout_s: float = 30.0
    pause_s: float = 1.0

    def fetch(self, target: Path) -> Path:
        """Return `target`, downloading it unless it is there; either way its checksum is verified.

        With neither `sha256` nor a published MD5 the SHA-256 of the first download is written to `<target>.sha256`, and
        later calls verify against that.

        Raises:
            DownloadError: the server cannot be reached or refuses, or the content is not the one expected.
        """
        record = target.with_name(target.name + ".sha256")
        if target.is_file():
            self._verify_again(target, record)
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with httpx.Client(timeout=self.timeout_s, follow_redirects=True) as client:
            self._fetch_with_retries(client, part)
            found = sha256_of(part)
            self._verify_first(client, part, found)
        record.write_text(found + "\n")
        part.replace(target)
        _validator_of(part).unlink(missing_ok=True)
        return target

    def _fetch_with_retries(self, client: httpx.Client, part: Path) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._fetch_rest(client, part)
                return
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise DownloadError(f"{self.url}: not an address ({error}); check data.base_url") from error
            except OSError as error:
                raise DownloadError(f"{part}: cannot be written: {error}; free space or rights") from error
            except httpx.TransportError as error:
                _LOG.warning("%s: attempt %d of %d was cut: %r", self.url, attempt, _ATTEMPTS, error)
                if attempt == _ATTEMPTS:
                    raise DownloadError(
                        f"{self.url}: cut {_ATTEMPTS} times, last by {error!r}; what arrived is kept in {part}, "
                        "run the command again to go on"
                    ) from error
                time.sleep(self.pause_s * 2 ** (attempt - 1))

    def _fetch_rest(self, client: httpx.Client, part: Path) -> None:
        """Append what is missing from `part`; start anew when the file changed meanwhile or cannot be resumed."""
        validator = _validator_of(part)
        have = part.stat().st_size if part.is_file() and validator.is_file() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text()}
        with client.stream("GET", self.url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                part.unlink()
                raise httpx.ReadError("the server has nothing after what arrived; starting anew")
            if response.is_server_error:
                raise httpx.ReadError(f"the server answers {response.status_code}")
            if response.is_error:
                raise DownloadError(f"{self.url}: the server answers {response.status_code}; check data.base_url")
            resumed = response.headers.get("content-range", "").startswith(f"bytes {have}-")
            start = have if response.status_code == httpx.codes.PARTIAL_CONTENT and resumed else 0
            _remember_validator(response, validator)
            _append(response, part, start)

    def _verify_first(self, client: httpx.Client, part: Path, found: str) -> None:
        if self.sha256 is not None:
            self._compare("SHA-256", self.sha256.lower(), found, part)
            return
        published = self._published_md5(client)
        if published is None:
            _LOG.warning("%s: no checksum is known; the SHA-256 of this first download is recorded", self.url)
            return
        with part.open("rb") as stream:
            self._compare("MD5", published, hashlib.file_digest(stream, "md5").hexdigest(), part)

    def _verify_again(self, target: Path, record: Path) -> None:
        expected = self.sha256 or (record.read_text().strip() if record.is_file() else None)
        if expected is not None and (found := sha256_of(target)) != expected.lower():
            raise DownloadError(
                f"{target}: SHA-256 is {found}, expected {expected}; delete the file to fetch it again from {self.url}"
            )

    def _published_md5(self, client: httpx.Client) -> str | None:
        if self.md5_url is None:
            return None
        try:
            response = client.get(self.md5_url)
        except httpx.TransportError as error:
            raise DownloadError(f"{self.md5_url}: cannot be fetched ({error!r}); try again later") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        token = re.search(r"\b[0-9a-fA-F]{32}\b", response.text)
        if response.is_error or token is None:
            raise DownloadError(
                f"{self.md5_url}: no MD5 in it (status {response.status_code}); set data.sha256 instead"
            )
        return token.group().lower()

    def _compare(self, kind: str, expected: str, found: str, part: Path) -> None:
        if found == expected:
            return
        part.unlink()
        _validator_of(part).unlink(missing_ok=True)
        raise DownloadError(f"{self.url}: {kind} is {found}, expected {expected}; the download was removed, try again")


def _validator_of(part: Path) -> Path:
    return part.with_name(part.name + "-version")


def _remember_validator(response: httpx.Response, path: Path) -> None:
    """Keep what names this version of the remote file: only with it a later attempt may be joined to this one."""
    etag = response.headers.get("etag", "")
    value = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
    if value:
        path.write_text(value)
    else:
        path.unlink(missing_ok=True)


def _append(response: httpx.Response, part: Path, start: int) -> None:
    length = response.headers.get("content-length")
    total = start + int(length) if length else None
    with (
        part.open("r+b" if start else "wb") as stream,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
    ):
        stream.truncate(start)
        stream.seek(start)
        for chunk in response.iter_raw():
            stream.write(chunk)
            bar.update(len(chunk))
