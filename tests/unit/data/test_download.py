"""Downloads against a file server on this machine: resume, checksums, and MovieLens by name."""

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrank.contract.errors import ConfigError, DownloadError, SourceError
from retrank.data.archives import extract
from retrank.data.download import RemoteFile
from retrank.data.ingest import ingest
from retrank.data.readers.movielens import MovieLens

CONTENT = bytes(range(256)) * 2_000


class FileServer:
    """Files in memory over HTTP with ranges; `cut_after` drops the connection after that many bytes, once each."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_after: list[int] = []
        self.ranges: list[str | None] = []
        self.etag: str | None = '"v1"'
        self.failures = 0
        self.url = ""

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                if server.failures:
                    server.failures -= 1
                    self.send_error(503)
                    return
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                wanted = self.headers.get("Range")
                server.ranges.append(wanted)
                same = self.headers.get("If-Range") == server.etag
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and same else 0
                if start >= len(content) > 0:
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if server.etag:
                    self.send_header("ETag", server.etag)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                body = content[start:]
                if server.cut_after:
                    body = body[: server.cut_after.pop(0)]
                    self.close_connection = True
                self.wfile.write(body)

        return Handler


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = FileServer()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files.handler()) as listening:
        files.url = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield files
        listening.shutdown()
        thread.join()


def remote(server: FileServer, **settings: str) -> RemoteFile:
    return RemoteFile(f"{server.url}/data.zip", pause_s=0.0, **settings)  # type: ignore[arg-type]  # text settings only


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    target = tmp_path / "downloads" / "data.zip"
    assert remote(server).fetch(target).read_bytes() == CONTENT
    remote(server).fetch(target)
    assert len(server.ranges) == 1
    assert sorted(path.name for path in target.parent.iterdir()) == ["data.zip", "data.zip.sha256"]


def test_a_cut_download_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    server.cut_after = [100_000, 50_000]
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]


def test_a_download_that_is_cut_every_time_goes_on_in_the_next_call(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    server.cut_after = [1_000] * 4
    with pytest.raises(DownloadError, match=r"cut 4 times.*run the command again"):
        remote(server).fetch(tmp_path / "data.zip")
    assert not (tmp_path / "data.zip").exists()
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=4000-"


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    server.cut_after = [1_000] * 4
    with pytest.raises(DownloadError):
        remote(server).fetch(tmp_path / "data.zip")
    server.files["/data.zip"], server.etag = b"new" * 5_000, '"v2"'
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == b"new" * 5_000


def test_without_a_version_a_cut_download_starts_anew(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"], server.etag = CONTENT, None
    server.cut_after = [1_000]
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_leftover_longer_than_the_file_is_thrown_away(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    (tmp_path / "data.zip.part").write_bytes(CONTENT + b"more")
    (tmp_path / "data.zip.part-version").write_text('"v1"')
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_server_that_is_busy_for_a_moment_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    server.failures = 2
    assert remote(server).fetch(tmp_path / "data.zip").read_bytes() == CONTENT


def test_a_wrong_sha256_is_refused_and_nothing_is_left(server: FileServer, tmp_path: Path) -> None:
    server.files["/data.zip"] = CONTENT
    with pytest.raises(DownloadError, match=f"SHA-256 is .*, expected {'0' * 64}"):
        remote(server, sha256="0" * 64).fetch(tmp_path / "data.zip")
    assert list(tmp_path.iterdir()) == []
    right = hashlib.sha256(CONTENT).hexdigest()
    assert remote(server, sha256=right.upper()).fetch(tmp_path / "data.zip").is_file()


@pytest.mark.parametrize("line", ["MD5 (data.zip) = {}\n", "{}  data.zip\n", "{}"])
def test_the_published_md5_is_checked(server: FileServer, tmp_path: Path, line: str) -> None:
    server.files["/data.zip"] = CONTENT
    file = remote(server, md5_url=f"{server.url}/data.zip.md5")
    server.files["/data.zip.md5"] = line.format("0" * 32).encode()
    with pytest.raises(DownloadError, match="MD5 is"):
        file.fetch(tmp_path / "data.zip")
    server.files["/data.zip.md5"] = line.format(hashlib.md5(CONTENT).hexdigest()).encode()
    assert file.fetch(tmp_path / "data.zip").is_file()


def test_an_md5_file_without_an_md5_is_refused(server: FileServer, tmp_path: Path) -> None:
    server.files |= {"/data.zip": CONTENT, "/data.zip.md5": b"<html>welcome</html>"}
    with pytest.raises(DownloadError, match="no MD5 in it"):
        remote(server, md5_url=f"{server.url}/data.zip.md5").fetch(tmp_path / "data.zip")


def test_without_any_checksum_the_first_download_is_recorded_and_checked_later(
    server: FileServer, tmp_path: Path
) -> None:
    server.files["/data.zip"] = CONTENT
    file = remote(server, md5_url=f"{server.url}/none.md5")
    target = file.fetch(tmp_path / "data.zip")
    assert (tmp_path / "data.zip.sha256").read_text().strip() == hashlib.sha256(CONTENT).hexdigest()
    target.write_bytes(b"changed")
    with pytest.raises(DownloadError, match="delete the file to fetch it again"):
        file.fetch(target)


def test_what_is_not_there_is_said(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answers 404"):
        remote(server).fetch(tmp_path / "data.zip")
    with pytest.raises(DownloadError, match="cut 4 times"):
        RemoteFile("http://127.0.0.1:9/data.zip", pause_s=0.0).fetch(tmp_path / "data.zip")
    with pytest.raises(DownloadError, match="not an address"):
        RemoteFile("movielens", pause_s=0.0).fetch(tmp_path / "data.zip")


def _zip(path: Path, members: dict[str, str | bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


def test_paths_inside_an_archive_do_not_decide_where_files_go(tmp_path: Path) -> None:
    _zip(tmp_path / "evil.zip", {"../../escaped.txt": "boo", "a/good.txt": "fine"})
    files = extract(tmp_path / "evil.zip", ["../../escaped.txt", "a/good.txt"], tmp_path / "out")
    assert files == [tmp_path / "out" / "escaped.txt", tmp_path / "out" / "good.txt"]
    assert not (tmp_path.parent / "escaped.txt").exists()


@pytest.mark.parametrize("damage", [lambda raw: raw[:-40], lambda raw: raw[:45] + b"\xff" * 30 + raw[75:]])
def test_a_damaged_archive_is_refused_by_name(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    raw = _zip(tmp_path / "good.zip", {"a.txt": bytes(range(256)) * 50})
    (tmp_path / "bad.zip").write_bytes(damage(raw))
    with pytest.raises(SourceError, match=r"bad\.zip: damaged"):
        extract(tmp_path / "bad.zip", ["a.txt"], tmp_path / "out")
    with pytest.raises(SourceError, match=r"good\.zip: .*b\.txt.*right archive"):
        extract(tmp_path / "good.zip", ["b.txt"], tmp_path / "out")


FLAGS = {1: "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0", 2: "1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0"}
DAT = {
    "ratings.dat": "1::10::5::978300760\n1::20::3::978300000\n2::10::4::978300760\n",
    "movies.dat": "10::Café: a tale (1995)::Drama|War\n20::Two (1996)::Comedy\n30::Unrated (1997)::Comedy\n",
}
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,5,978300760\n1,20,3,978300000\n2,10,4,978300760\n",
    "movies.csv": 'movieId,title,genres\n10,"Café: a tale (1995)",Drama|War\n20,Two (1996),Comedy\n',
}
TAB = {
    "u.data": "1\t10\t5\t978300760\n1\t20\t3\t978300000\n2\t10\t4\t978300760\n",
    "u.item": f"10|Café: a tale (1995)|01-Jan-1995||url|{FLAGS[1]}\n20|Two (1996)|||url|{FLAGS[2]}\n",
}


@pytest.mark.parametrize(
    ("release", "members", "encoding", "genres"),
    [
        ("ml-100k", TAB, "latin-1", ["Animation|Children's|Comedy", "unknown"]),
        ("ml-1m", DAT, "latin-1", ["Drama|War", "Comedy"]),
        ("ml-latest-small", CSV, "utf-8", ["Drama|War", "Comedy"]),
        ("ml-20m", CSV, "utf-8", ["Drama|War", "Comedy"]),
        ("ml-32m", CSV, "utf-8", ["Drama|War", "Comedy"]),
    ],
)
def test_every_movielens_release_is_fetched_and_ingested_by_name(
    server: FileServer, tmp_path: Path, release: str, members: dict[str, str], encoding: str, genres: list[str]
) -> None:
    packed = {f"{release}/{name}": text.encode(encoding) for name, text in members.items()}
    server.files[f"/{release}.zip"] = _zip(tmp_path / "made.zip", packed)  # type: ignore[arg-type]  # bytes are allowed
    server.cut_after = [50]
    reader = MovieLens(release, release, str(tmp_path / "downloads"), server.url)
    store = ingest(reader, tmp_path / "store", items_without_events=False)
    assert (store.users.ids, store.items.ids) == (["1", "2"], ["10", "20"])
    assert [rows.tolist() for rows in store.sequences] == [[2, 1], [1]]
    assert store.values is not None
    assert store.values.tolist() == [3.0, 5.0, 4.0]
    assert store.item_table.to_pydict() == {
        "item_id": ["10", "20"], "title": ["Café: a tale (1995)", "Two (1996)"], "genres": genres,
    }  # fmt: skip
    requests = len(server.ranges)
    ingest(reader, tmp_path / "store", items_without_events=False)
    assert len(server.ranges) == requests


def test_an_unknown_movielens_release_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"data.release is 'ml-2m'; expected one of ml-100k, ml-1m"):
        MovieLens("ml-2m", "x", "downloads", "http://127.0.0.1")
