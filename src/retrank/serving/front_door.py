"""What is added to the configuration that Ray writes for HAProxy, as edits of it: Ray offers no setting for them.

- A client has ten seconds for a request (408), and a replica hears of it when all of it is there or the 16 KiB that fit
  a buffer; what is still to come then, the replica waits for itself, see `web.arrivals`.
- A replica sees methods it can read only, else the front answers 405, and ids that logs can hold, else none.
- While there is nobody to answer (the application starts, or every replica is gone) the front answers 503 and asks to
  come back, where Ray would say 404 or 500. A replica that broke off is a 502, one that took too long a 504.
- When a replica refuses to connect, another one is asked after a tenth of a second.
- Statistics and metrics pages stay on this machine.
- The log gets a line for a request that failed, there or on the way, and none for the others, unless an operator named
  a target.
"""

from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from retrank.contract.api import MAX_ID_LENGTH, Problem
from retrank.contract.problem_codes import ProblemCode

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RETRY_AFTER_S = 1
_REQUEST_S = 10
_CONNECT_MS = 100
_LOG_FAILURES = "option dontlog-normal\\n    "
_SOUND_IDS = (
    f"http-request del-header x-request-id unless {{ req.hdr(x-request-id) -m reg ^[!-~]{{1,{MAX_ID_LENGTH}}}$ }}"
)
_HOLE = "|the id of the request|"
MEDIA_TYPE = "application/problem+json"
_ID = "%[req.hdr(x-request-id),json(utf8s)]"
NOBODY = "no replica is there to answer; the service starts, or its replicas were lost and are started again"


class _Said(NamedTuple):
    """What the front says of its own accord; `soon` when asking again in a moment may help."""

    status: HTTPStatus
    code: ProblemCode
    detail: str
    soon: bool = False


_BROKEN = (
    "the replica that had the request ended, or broke off, before it had answered; it may have done what was asked"
)
_LATE = "no replica answered in the time that this front waits; the request may still be done"
_SLOW = _Said(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", f"the body did not come within {_REQUEST_S} s")
_FAILURES = (  # for which Ray writes a file of its own
    _Said(HTTPStatus.BAD_GATEWAY, "replica_lost", _BROKEN, soon=True),
    _Said(HTTPStatus.SERVICE_UNAVAILABLE, "starting", NOBODY, soon=True),
    _Said(HTTPStatus.GATEWAY_TIMEOUT, "replica_late", _LATE),
)


def edits(folder: Path, *, loopback: str, front: str, alone: bool, logged: bool) -> list[str]:
    """Return expressions for sed, and write what they refer to.

    Args:
        folder: of HAProxy's files.
        loopback: where the front listens when Ray starts it.
        front: where it shall listen.
        alone: keep pages for operators on this machine.
        logged: write a line for every request, and not only for those that failed on the way.
    """
    patience = f"timeout http-request {_REQUEST_S}s\\n    errorfile {_SLOW.status} {_written(folder, _SLOW)}"
    found = [
        f"s/^\\( *bind \\){loopback}:/\\1{front}:/",
        f"s|^defaults *$|&\\n    {'' if logged else _LOG_FAILURES}option http-buffer-request\\n    {patience}|",
        f"s|^frontend http_frontend *$|&\\n    {_SOUND_IDS}\\n    {_method_answer()}|",
        # HAProxy waits as long as this, and at most a second, before it asks another replica when one refused.
        f"s/^\\( *timeout connect \\)[0-9]*s *$/\\1{_CONNECT_MS}ms/",
        f"s|^\\( *\\)http-request return status 404 content-type text/plain .*|\\1{_nobody_answer()}|",
        *(f"s|^\\( *errorfile {said.status} \\).*|\\1{_written(folder, said)}|" for said in _FAILURES),
    ]
    return [*found, f"s/^\\( *bind \\)[*]\\{{0,1\\}}:/\\1{loopback}:/"] if alone else found


def _method_answer() -> str:
    detail = f"the method is none that any route knows; use one of {', '.join(METHODS)}"
    answer = _answer(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, ("Allow", ", ".join(METHODS)))
    return f"{answer} unless {{ method {' '.join(METHODS)} }}"


def _nobody_answer() -> str:
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "starting", NOBODY, ("Retry-After", str(RETRY_AFTER_S)))


def _answer(status: HTTPStatus, code: ProblemCode, detail: str, header: tuple[str, str]) -> str:
    """Return the rule that answers with a problem document, which names the request where it has an id."""
    name, value = header
    body = document(status, code, detail, _HOLE).replace(_HOLE, _ID)
    return (
        f"http-request return status {int(status)} content-type {MEDIA_TYPE} lf-string '{body}' "
        f'hdr {name} "{value}" hdr Cache-Control no-store'
    )


def _written(folder: Path, said: _Said) -> Path:
    """Write an answer as HAProxy sends it in place of its own; it cannot name the request."""
    status, file = said.status, folder / f"{said.status}.http"
    body = document(status, said.code, said.detail, "")
    head = (
        f"HTTP/1.1 {status} {status.phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body.encode())}",
        *([f"Retry-After: {RETRY_AFTER_S}"] if said.soon else []),
        "Cache-Control: no-store",
    )
    file.write_bytes("\r\n".join([*head, "", body]).encode())
    return file


def document(status: HTTPStatus, code: ProblemCode, detail: str, request_id: str) -> str:
    """Return a problem document of what stands in front of the replicas."""
    problem = Problem(
        type=f"/problems/{code}", title=status.phrase, status=status, detail=detail, instance=request_id, code=code
    )
    return problem.model_dump_json()
