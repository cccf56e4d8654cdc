"""What the front answers by itself, asked of a real HAProxy whose configuration has the lines that Ray writes."""

import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing

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
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 503 {folder}/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend lost if {{ path_beg /v1/ }}
    default_backend default_backend
backend default_backend
{not_routed}"Path \\'%[path]\\' not found. Ping http://.../-/routes for available routes."
backend lost
    server replica 127.0.0.1:{nobody}
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    environment = {"PATH": os.environ["PATH"]}
    folder, config = prepare(environment), tmp_path_factory.mktemp("front") / "haproxy.cfg"
    assert folder is not None, "the package of HAProxy is one of those that serving needs"
    listens = free_port()
    (config.parent / "500.http").write_text("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
    config.write_text(CONFIG.format(folder=config.parent, port=listens, nobody=free_port(), not_routed=NOT_ROUTED))
    command = [environment["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config)]
    with subprocess.Popen(command, env=environment) as process:
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
