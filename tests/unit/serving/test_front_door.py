"""What the front answers by itself, asked of a real HAProxy whose configuration has the lines that Ray writes."""

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ray_serving import HAPROXY_TEMPLATE

from retrank.contract.api import Problem
from retrank.serving.ingress import free_port, prepare

NOT_ROUTED = "    http-request return status 404 content-type text/plain lf-string "
RAY_WRITES = (
    "frontend http_frontend",
    "\ndefaults\n",
    NOT_ROUTED,
    *(f"    errorfile {status} " for status in (502, 503, 504)),
)
CONFIG = """global
    maxconn 50
    log 127.0.0.1:{logs} local0 info
defaults
    mode http
    log global
    option httplog
    timeout connect 1s
    timeout client 5s
    timeout server 500ms
    timeout http-request 500ms
    errorfile 502 {folder}/500.http
    errorfile 503 {folder}/500.http
    errorfile 504 {folder}/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend echoes if {{ path_beg /v1/items/ }}
    use_backend lost if {{ path_beg /v1/ }}
    use_backend breaks if {{ path_beg /breaks }}
    use_backend hangs if {{ path_beg /hangs }}
    default_backend default_backend
backend default_backend
{not_routed}"Path \\'%[path]\\' not found. Ping http://.../-/routes for available routes."
backend lost
    server replica 127.0.0.1:{nobody}
backend breaks
    server replica 127.0.0.1:{breaks}
backend hangs
    server replica 127.0.0.1:{hangs}
backend echoes
    server replica 127.0.0.1:{echoes}
"""


@contextmanager
def _replica(*, breaks: bool) -> Iterator[int]:
    """Take connections on a port that is yielded, and never answer: close them at once, or keep them."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with suppress(OSError):  # the listener was closed
                while True:
                    connection, _ = listener.accept()
                    connection.recv(65_536)
                    if breaks:
                        connection.close()
                    else:
                        kept.append(connection)

        threading.Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


@contextmanager
def _echo() -> Iterator[int]:
    """Answer every request, on a port that is yielded, with the target it names."""

    class Echo(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.path.encode("latin-1")
            self.send_response(503 if self.path.endswith("/away") else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def logs() -> Iterator[socket.socket]:
    """Take what HAProxy logs; a datagram is a line."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, logs: socket.socket) -> Iterator[int]:
    environment = {"PATH": os.environ["PATH"]}
    folder, config = prepare(environment), tmp_path_factory.mktemp("front") / "haproxy.cfg"
    assert folder is not None, "the package of HAProxy is one of those that serving needs"
    listens = free_port()
    (config.parent / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config)]
    with ExitStack() as stack:
        breaks, hangs = (stack.enter_context(_replica(breaks=one)) for one in (True, False))
        ports = {"port": listens, "nobody": free_port(), "breaks": breaks, "hangs": hangs}
        ports["logs"] = logs.getsockname()[1]
        ports["echoes"] = stack.enter_context(_echo())
        config.write_text(CONFIG.format(folder=config.parent, not_routed=NOT_ROUTED, **ports))
        process = stack.enter_context(subprocess.Popen(command, env=environment))
        try:
            _wait_for(listens, process)
            yield listens
        finally:
            process.kill()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None, "HAProxy refused its configuration"
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)) as connection:
            try:
                connection.connect()
            except OSError:
                time.sleep(0.02)
            else:
                return
    pytest.fail("HAProxy does not listen")


def _asked(port: int, method: str, path: str, request_id: str | None = None) -> tuple[Problem, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)) as connection:
        connection.request(method, path, headers={} if request_id is None else {"X-Request-ID": request_id})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        problem = Problem.model_validate_json(answer.read())
    assert headers["content-type"] == "application/problem+json"
    assert problem.status == answer.status
    return problem, headers


@pytest.mark.parametrize("path", ["/readyz", "/anything", "/v1/recommend"])
def test_while_nobody_is_there_the_front_says_503_and_when_to_come_back(port: int, path: str) -> None:
    """Of the first two no application is known yet; of the third it is, and no replica is left."""
    problem, headers = _asked(port, "GET", path)
    assert (problem.status, problem.code) == (503, "starting")
    assert int(headers["retry-after"]) >= 1
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status", "code", "soon"),
    [("/breaks", 502, "replica_lost", True), ("/hangs", 504, "replica_late", False)],
)
def test_a_replica_that_breaks_off_or_hangs_is_not_said_to_start(
    port: int, path: str, status: int, code: str, soon: bool
) -> None:
    problem, headers = _asked(port, "GET", path)
    assert (problem.status, problem.code) == (status, code)
    assert "start" not in problem.detail
    assert ("retry-after" in headers) is soon


@pytest.mark.parametrize("body", [b"{", b"1\r\n{\r\n"], ids=["announced", "in chunks"])
def test_a_body_that_does_not_come_to_its_end_is_a_408_problem(port: int, body: bytes) -> None:
    how = b"Content-Length: 500" if body == b"{" else b"Transfer-Encoding: chunked"
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as connection:
        connection.sendall(b"POST /hangs HTTP/1.1\r\nHost: a\r\n" + how + b"\r\n\r\n" + body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        problem = Problem.model_validate_json(answer.read())
    assert (answer.status, problem.status, problem.code) == (408, 408, "request_timeout")
    assert answer.getheader("content-type") == "application/problem+json"


@pytest.mark.parametrize("method", ["FOO", "TRACE", "get"])
def test_a_method_that_nobody_knows_is_a_405_that_names_those_it_may_be(port: int, method: str) -> None:
    problem, headers = _asked(port, method, "/v1/recommend")
    assert (problem.status, problem.code) == (405, "method_not_allowed")
    assert {"GET", "HEAD", "POST"} <= set(headers["allow"].split(", "))


@pytest.mark.parametrize("request_id", ["mine", 'a"quoted\\one'])
def test_the_front_names_the_request_in_its_problems(port: int, request_id: str) -> None:
    assert _asked(port, "GET", "/readyz", request_id)[0].instance == request_id
    assert _asked(port, "FOO", "/readyz", request_id)[0].instance == request_id
    assert _asked(port, "GET", "/readyz", "x" * 300)[0].instance == ""


def test_ray_still_writes_the_lines_that_are_changed() -> None:
    assert [line for line in RAY_WRITES if line not in HAPROXY_TEMPLATE] == []
    assert json.dumps(HAPROXY_TEMPLATE).count("return status 404") == 1


def _logged(logs: socket.socket) -> list[str]:
    """Return the lines that came, and wait a moment for the first."""
    lines, patience_s = [], 2.0
    with suppress(TimeoutError):
        while True:
            logs.settimeout(patience_s)
            lines.append(logs.recv(65_536).decode())
            patience_s = 0.1
    return lines


def test_the_log_has_what_failed_and_no_line_for_the_rest(port: int, logs: socket.socket) -> None:
    _logged(logs)  # of other tests
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)) as connection:
        for number in range(5):
            connection.request("PUT", f"/v1/items/good{number}", body=b"{}")
            connection.getresponse().read()
        connection.request("PUT", "/v1/items/away", body=b"{}")
        connection.getresponse().read()
    _asked(port, "GET", "/breaks")
    lines = _logged(logs)
    assert len([line for line in lines if "/v1/items/away" in line and " 503 " in line]) == 1
    assert [line for line in lines if "/v1/items/good" in line] == []
    assert len([line for line in lines if "/breaks" in line and " 502 " in line]) == 1


@pytest.mark.parametrize("part", ["a%2Favailability", "%2e%2E", "..", "%ff", "%252F", "a//b", "%0A%00", "a;b:c@d"])
def test_the_front_passes_paths_on_as_they_were_sent(port: int, part: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)) as connection:
        connection.request("PUT", f"/v1/items/{part}", body=b"{}")
        assert connection.getresponse().read().decode() == f"/v1/items/{part}"
