"""A tiny HTTP service that says what a script tells it to, over real sockets, and remembers what it was asked."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

SLATE: dict[str, Any] = {
    "request_id": "r1",
    "recommendation_id": "signed",
    "items": [
        {"item_id": f"i{rank}", "rank": rank, "score": 1.0 / rank, "sources": ["sequence"], "reasons": []}
        for rank in range(1, 6)
    ],
    "bundle": {"id": "b1", "created_at": "2026-01-01T00:00:00Z", "model": "SASRec"},
    "degraded": {"is_degraded": False, "reasons": []},
    "took_ms": {"total": 1.0},
}


@dataclass(frozen=True)
class Said:
    """One scripted answer; `hang_s` seconds late, or cut off without a word. `raw` stands for the body as JSON.

    `drip_bytes` of it come at a time, every 20 ms; 0 is all at once.
    """

    status: int = 200
    body: Any = field(default_factory=lambda: SLATE)
    headers: tuple[tuple[str, str], ...] = ()
    hang_s: float = 0.0
    cut: bool = False
    raw: bytes | None = None
    drip_bytes: int = 0


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ScriptedService:
    """Answers with `script` in order, then with the last entry for ever."""

    def __init__(self, script: list[Said]) -> None:
        self.script = list(script)
        self.asked: list[Asked] = []
        self.url = ""

    def next(self) -> Said:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextmanager
def serving(*script: Said) -> Iterator[ScriptedService]:
    """Serve on a free loopback port until the block ends."""
    service = ScriptedService(list(script) or [Said()])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append(Asked(self.command, self.path, headers, json.loads(raw) if raw else None))
            said = service.next()
            time.sleep(said.hang_s)
            if said.cut:
                self.close_connection = True
                return
            body = json.dumps(said.body).encode() if said.raw is None else said.raw
            self.send_response(said.status)
            for name, value in said.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for start in range(0, len(body), said.drip_bytes or len(body) or 1):
                self.wfile.write(body[start : start + (said.drip_bytes or len(body))])
                self.wfile.flush()
                time.sleep(0.02 if said.drip_bytes else 0.0)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  (names of http.server)

        def log_request(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
