"""Log lines: JSON when wanted, no secrets ever."""

import io
import json
import logging
import logging.handlers
import subprocess
import sys
from collections.abc import Iterator

import pytest

from retrank.serving.telemetry.logs import answering, set_up, unbuffered

TOKEN = "retrank_0123456789ab_" + "s3cret-_" * 5 + "xyz"


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO, logging.Handler]]:
    logger, stream = logging.getLogger("retrank.test_logs"), io.StringIO()
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield logger, stream, handler
    logger.removeHandler(handler)


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_hidden_wherever_they_stand(
    log: tuple[logging.Logger, io.StringIO, logging.Handler], as_json: bool
) -> None:
    logger, stream, handler = log
    set_up([handler], as_json=as_json)
    set_up([handler], as_json=as_json)  # a second replica object in one process changes nothing
    logger.info("key %s", TOKEN)
    logger.info("headers %s", {"authorization": "Bearer abc.def", "other": "kept"})
    try:
        raise ValueError(f"no such key: {TOKEN}")
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert "s3cret" not in text
    assert "abc.def" not in text
    assert "retrank_0123456789ab_***" in text
    assert "kept" in text
    assert "ValueError" in text


def test_a_json_line_holds_the_record_and_its_traceback(
    log: tuple[logging.Logger, io.StringIO, logging.Handler],
) -> None:
    logger, stream, handler = log
    set_up([handler], as_json=True)
    logger.info("two\nlines %s", "é")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {**first, "ts": ""} == {
        "ts": "",
        "level": "info",
        "logger": "retrank.test_logs",
        "message": "two\nlines é",
    }
    assert first["ts"].endswith("Z")
    assert "ValueError: why" in second["error"]


def test_lines_do_not_wait_in_a_buffer_for_an_error() -> None:
    file, plain = logging.StreamHandler(io.StringIO()), logging.StreamHandler(io.StringIO())
    assert unbuffered([logging.handlers.MemoryHandler(1000, target=file), plain]) == [file, plain]


def test_a_line_written_while_a_request_is_answered_names_it(
    log: tuple[logging.Logger, io.StringIO, logging.Handler],
) -> None:
    logger, stream, handler = log
    set_up([handler], as_json=True)
    logger.info("outside")
    token = answering.set("r-1")
    logger.info("inside")
    answering.reset(token)
    logger.info("handed on", extra={"request_id": "r-2"})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("request_id") for line in lines] == [None, "r-1", "r-2"]


_SERVER = """
import logging, sys, uvicorn
from retrank.serving.telemetry.logs import announce, json_to_stderr
json_to_stderr()
logging.getLogger("retrank.audit").warning("who did %s", "what")
logging.getLogger("somebody.else").error("two\\nlines")
uvicorn.Config("no.such:app", log_config=None, port=1)
logging.getLogger("uvicorn.error").error("cannot")
announce("ready", as_json=True)
"""


def test_all_that_a_process_says_is_json_each_line_once() -> None:
    done = subprocess.run([sys.executable, "-c", _SERVER], capture_output=True, text=True, timeout=60, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["logger"], line["message"]) for line in lines] == [
        ("retrank.audit", "who did what"),
        ("somebody.else", "two\nlines"),
        ("uvicorn.error", "cannot"),
    ]
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["ready"]
