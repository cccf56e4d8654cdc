"""What the sync and the async client have in common: headers, fallback and the reading of answers."""

import random
import re
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from retrank import __version__
from retrank.client.answers import Batch, BatchEntry, Refusal, Slate
from retrank.client.calls import Call
from retrank.client.errors import CallFailed, ClientError
from retrank.client.fallback import Fallback
from retrank.client.flow import Caller, Reply, Send
from retrank.client.settings import ClientSettings
from retrank.contract.api import MAX_DEADLINE_MS

_Answer = TypeVar("_Answer")
_DEADLINE = "X-Deadline-Ms"
_USER = re.compile(r"[^/@]*@")
_SHOWN = 200
NO_ANSWER = "no_answer"
"""Code of a request of a batch for which nothing is known locally."""


class BaseClient:
    """Everything but sending and sleeping. Use `Client` or `AsyncClient`."""

    def __init__(
        self,
        settings: ClientSettings | None = None,
        *,
        fallback_items: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """Keep the settings.

        Args:
            settings: how to call; defaults when None.
            fallback_items: item ids to show when nothing else is known, best first.
            clock: monotonic seconds.
            rng: jitter of waits.
        """
        self.settings = settings or ClientSettings()
        self._caller = Caller(self.settings, clock, rng or random.Random())
        self._fallback = Fallback(self.settings.fallback_answers, tuple(fallback_items))

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"retrank-client/{__version__}", "Accept": "application/json"}
        if self.settings.api_key is not None:
            headers["Authorization"] = f"Bearer {self.settings.api_key.get_secret_value()}"
        return headers

    def _limits(self) -> httpx.Limits:
        most = self.settings.max_connections
        return httpx.Limits(max_connections=most, max_keepalive_connections=most)

    def _finished(self, call: Call[_Answer], reply: Reply) -> _Answer:
        try:
            answer = call.read(reply.body)
        except ValidationError as error:  # a page of something in between, say; what happened to the call is unknown
            seen = f"{reply.status} with a body that is no answer of the service ({error.error_count()} problems)"
            failure = CallFailed(f"the call ended with {seen}", attempts=1, status=reply.status)
            failure.__cause__ = error
            instead: _Answer = self._instead(call, failure)
            return instead
        self._remember(call, answer)
        if call.forgets is not None:
            self._fallback.forget(call.forgets)
        return answer

    def _remember(self, call: Call[Any], answer: Any) -> None:
        if isinstance(answer, Batch):
            for part, entry in zip(call.parts, answer.answers, strict=False):
                self._remember(part, entry.slate)
        if isinstance(answer, Slate) and call.remember_as is not None:
            self._fallback.remember(call.remember_as, answer)

    def _instead(self, call: Call[_Answer], failure: CallFailed) -> Any:
        """Return what is known locally, or raise the failure when nothing is."""
        if call.stand_in is not None:
            return call.stand_in()
        if call.parts:
            return self._batch_instead(call, failure)
        known = self._known(call)
        if known is None:
            raise failure
        return known

    def _batch_instead(self, call: Call[Any], failure: CallFailed) -> Batch:
        """Answer what is known locally, one by one; nothing known at all is a failure."""
        known = [self._known(part) for part in call.parts]
        if not any(known):
            raise failure
        refusal, status = Refusal(code=NO_ANSWER, detail=str(failure)), failure.status or HTTPStatus.SERVICE_UNAVAILABLE
        return Batch(
            answers=[
                BatchEntry(status=int(status), problem=refusal)
                if slate is None
                else BatchEntry(status=HTTPStatus.OK, slate=slate)
                for slate in known
            ]
        )

    def _known(self, call: Call[Any]) -> Slate | None:
        return self._fallback.answer(call.fallback_keys, call.k, call.excluded) if call.fallback_keys else None


def checked_url(base_url: str) -> str:
    """Return the address of a service.

    Raises:
        ClientError: it has no scheme or no host, or is no URL; nothing could ever be sent there.
    """
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ClientError(f"the base URL is not one ({error}); expected something like http://127.0.0.1:8000") from None
    if url.scheme in ("http", "https") and url.host:
        return base_url
    seen = _USER.sub("...@", base_url[:_SHOWN])
    meant = f"http://{seen}" if "://" not in seen else "http://127.0.0.1:8000"
    raise ClientError(f"the base URL is {seen!r}, expected http:// or https:// and a host, such as {meant}")


def request_arguments(call: Call[Any], step: Send) -> dict[str, Any]:
    """Return the arguments of one `httpx` request."""
    headers = {_DEADLINE: str(min(max(1, round(step.timeout_s * 1e3)), MAX_DEADLINE_MS))}
    if call.body is not None:
        headers["Content-Type"] = "application/json"
    return {
        "method": call.method,
        "url": call.path,
        "params": call.query or None,
        "content": call.body,
        "headers": headers,
        "timeout": step.timeout_s,
    }


def as_reply(response: httpx.Response, body: bytes) -> Reply:
    """Return a response as the flow reads it."""
    return Reply(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
