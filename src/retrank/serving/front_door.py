"""What is added to the configuration that Ray writes for HAProxy, as edits of it: Ray offers no setting for them.

- A replica sees whole requests only, for which a client has ten seconds; of a method it can read, else the front
  answers 405; and with an id that logs can hold, else with none.
- While there is nobody to answer (the application starts, or every replica is gone) the front answers 503 and asks to
  come back, where Ray would say 404 or 500.
- When a replica refuses to connect, another one is asked after a tenth of a second.
- Statistics and metrics pages stay on this machine.
"""

from http import HTTPStatus
from pathlib import Path

from retrank.contract.api import MAX_ID_LENGTH, Problem

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
RETRY_AFTER_S = 1
_REQUEST_S = 10
_CONNECT_MS = 100
_SOUND_IDS = (
    f"http-request del-header x-request-id unless {{ req.hdr(x-request-id) -m reg ^[!-~]{{1,{MAX_ID_LENGTH}}}$ }}"
)
_HOLE = "|the id of the request|"
_MEDIA_TYPE = "application/problem+json"
_ID = "%[req.hdr(x-request-id),json(utf8s)]"
_NOBODY_FILE = "nobody.http"
_NOBODY = "no replica is there to answer; the service starts, or its replicas were lost and are started again"


def edits(folder: Path, *, loopback: str, front: str, alone: bool) -> list[str]:
    """Return expressions for sed, and write what they refer to.

    Args:
        folder: of HAProxy's files.
        loopback: where the front listens when Ray starts it.
        front: where it shall listen.
        alone: keep pages for operators on this machine.
    """
    (folder / _NOBODY_FILE).write_bytes(_whole_answer(HTTPStatus.SERVICE_UNAVAILABLE, "starting", _NOBODY))
    found = [
        f"s/^\\( *bind \\){loopback}:/\\1{front}:/",
        f"s/^defaults *$/&\\n    option http-buffer-request\\n    timeout http-request {_REQUEST_S}s/",
        f"s|^frontend http_frontend *$|&\\n    {_SOUND_IDS}\\n    {_method_answer()}|",
        # HAProxy waits as long as this, and at most a second, before it asks another replica when one refused.
        f"s/^\\( *timeout connect \\)[0-9]*s *$/\\1{_CONNECT_MS}ms/",
        f"s|^\\( *\\)http-request return status 404 content-type text/plain .*|\\1{_nobody_answer()}|",
        f"s|^\\( *errorfile 50[234] \\).*|\\1{folder / _NOBODY_FILE}|",
    ]
    return [*found, f"s/^\\( *bind \\)[*]\\{{0,1\\}}:/\\1{loopback}:/"] if alone else found


def _method_answer() -> str:
    detail = f"the method is none that any route knows; use one of {', '.join(METHODS)}"
    answer = _answer(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, ("Allow", ", ".join(METHODS)))
    return f"{answer} unless {{ method {' '.join(METHODS)} }}"


def _nobody_answer() -> str:
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "starting", _NOBODY, ("Retry-After", str(RETRY_AFTER_S)))


def _answer(status: HTTPStatus, code: str, detail: str, header: tuple[str, str]) -> str:
    """Return the rule that answers with a problem document, which names the request where it has an id."""
    name, value = header
    body = _document(status, code, detail).replace(_HOLE, _ID)
    return (
        f"http-request return status {int(status)} content-type {_MEDIA_TYPE} lf-string '{body}' "
        f'hdr {name} "{value}" hdr Cache-Control no-store'
    )


def _whole_answer(status: HTTPStatus, code: str, detail: str) -> bytes:
    """Return an answer as HAProxy sends it in place of its own; it cannot name the request."""
    body = _document(status, code, detail).replace(_HOLE, "")
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}",
        f"Content-Type: {_MEDIA_TYPE}",
        f"Content-Length: {len(body.encode())}",
        f"Retry-After: {RETRY_AFTER_S}",
        "Cache-Control: no-store",
    )
    return "\r\n".join([*head, "", body]).encode()


def _document(status: HTTPStatus, code: str, detail: str) -> str:
    problem = Problem(
        type=f"/problems/{code}", title=status.phrase, status=status, detail=detail, instance=_HOLE, code=code
    )
    return problem.model_dump_json()
