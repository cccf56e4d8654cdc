"""The client for ordinary code. Safe to share between threads; its twin for coroutines is `async_client`."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import JsonValue

from retrank.client import calls
from retrank.client.answers import Batch, Ranking, Receipt, Slate
from retrank.client.base import BaseClient, as_reply, checked_url, request_arguments
from retrank.client.errors import CallFailed, ClientClosed
from retrank.client.flow import Reply, Send
from retrank.client.settings import ClientSettings
from retrank.contract.api import RecommendRequest, SimilarRequest, Window
from retrank.contract.catalogue_changes import BulkItem
from retrank.contract.events import Event
from retrank.contract.ranking import RankRequest

_Answer = TypeVar("_Answer")


class Client(BaseClient):
    """Calls one service over kept-alive connections.

    Every method takes `deadline_s`, seconds for all attempts together (default: `settings.deadline_s`), and raises
    `CallRefused` when the service says no and `CallFailed` when no usable answer came and nothing local will do.
    """

    def __init__(
        self,
        base_url: str,
        settings: ClientSettings | None = None,
        *,
        fallback_items: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare connections to `base_url`; none is made before the first call. See `BaseClient` for the rest.

        Raises:
            ClientError: `base_url` is not the address of a service.
        """
        super().__init__(settings, fallback_items=fallback_items, clock=clock, rng=rng)
        self._clock, self._sleep = clock, sleep
        self._http = httpx.Client(base_url=checked_url(base_url), headers=self._headers(), limits=self._limits())

    def recommend(self, request: RecommendRequest, *, deadline_s: float | None = None) -> Slate:
        """Ask for a slate for a known user, an anonymous session, or nobody in particular."""
        return self.run(calls.recommend(request), deadline_s)

    def recommend_batch(self, requests: Sequence[RecommendRequest], *, deadline_s: float | None = None) -> Batch:
        """Ask for up to 256 slates at once; each answer has a status of its own."""
        return self.run(calls.recommend_batch(requests), deadline_s)

    def rank(self, request: RankRequest, *, deadline_s: float | None = None) -> Ranking:
        """Order up to 1,000 candidates of your own for somebody; left in your order when nothing usable came."""
        return self.run(calls.rank(request), deadline_s)

    def similar(self, request: SimilarRequest, *, deadline_s: float | None = None) -> Slate:
        """Ask for items like one item."""
        return self.run(calls.similar(request), deadline_s)

    def popular(
        self, k: int = 10, placement: str | None = None, window: Window = "all", *, deadline_s: float | None = None
    ) -> Slate:
        """Ask for what is popular; worth calling once at start, so that there is something to fall back on."""
        return self.run(calls.popular(k, placement, window), deadline_s)

    def send_events(self, events: Sequence[Event], *, deadline_s: float | None = None) -> Receipt:
        """Hand over up to 1,000 events; what is accepted is durable. See `EventBuffer` for a stream of them."""
        return self.run(calls.send_events(events), deadline_s)

    def put_item(self, item_id: str, attributes: Mapping[str, JsonValue], *, deadline_s: float | None = None) -> Any:
        """Add an item or replace its attributes."""
        return self.run(calls.put_item(item_id, attributes), deadline_s)

    def delete_item(self, item_id: str, *, deadline_s: float | None = None) -> Any:
        """Take an item out of every answer."""
        return self.run(calls.delete_item(item_id), deadline_s)

    def set_availability(self, item_id: str, *, available: bool, deadline_s: float | None = None) -> Any:
        """Say whether an item may be shown."""
        return self.run(calls.set_availability(item_id, available=available), deadline_s)

    def change_items(self, changes: Sequence[BulkItem], *, deadline_s: float | None = None) -> Any:
        """Change up to 1,000 items, all or none."""
        return self.run(calls.change_items(changes), deadline_s)

    def forget_user(self, user_id: str, *, deadline_s: float | None = None) -> Any:
        """Forget what was learned of a person since the bundle was sealed; the event log keeps its events."""
        return self.run(calls.forget_user(user_id), deadline_s)

    def export_user(self, user_id: str, *, deadline_s: float | None = None) -> list[dict[str, Any]]:
        """Return everything that is kept of a person."""
        return self.run(calls.export_user(user_id), deadline_s)

    def erase_user(self, user_id: str, *, deadline_s: float | None = None) -> Any:
        """Erase a person for good: profile, event log, training."""
        return self.run(calls.erase_user(user_id), deadline_s)

    def post(self, path: str, body: JsonValue, *, deadline_s: float | None = None) -> Any:
        """Post JSON to a route this client has no method for; only for calls that may be repeated."""
        return self.run(calls.post(path, body), deadline_s)

    def run(self, call: calls.Call[_Answer], deadline_s: float | None = None) -> _Answer:
        """Make one call: attempts, waits and fallback."""
        flow = self._caller.call(deadline_s)
        try:
            step = next(flow)
            while True:
                step = flow.send(self._take(call, step))
        except StopIteration as ended:
            return self._finished(call, ended.value)
        except CallFailed as failure:
            answer: _Answer = self._instead(call, failure)
            return answer

    def _take(self, call: calls.Call[Any], step: Any) -> Reply | Exception | None:
        if not isinstance(step, Send):
            self._sleep(step.seconds)
            return None
        try:
            return self._reply(call, step)
        except httpx.RequestError as error:  # no connection, no answer in time, or one that cannot be decoded
            return error
        except RuntimeError as error:  # what httpx says of a client that is closed
            if self._http.is_closed:
                raise ClientClosed from error
            raise

    def _reply(self, call: calls.Call[Any], step: Send) -> Reply:
        """Read an answer as it comes: `httpx` bounds each wait for bytes, this bounds them all together."""
        ends = self._clock() + step.timeout_s
        with self._http.stream(**request_arguments(call, step)) as response:
            body = bytearray()
            for part in response.iter_bytes():
                body += part
                if self._clock() >= ends:
                    raise httpx.ReadTimeout("the answer came too slowly", request=response.request)
        return as_reply(response, bytes(body))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()
