"""The order in which a request is looked at before anything of its body is read.

    who calls? ─► may they? ─► ready? ─► quota ─► a slot, or the queue
      401          403          503       429        429

What each path needs is one table here, so that a route without a line is the strictest kind, not an open one.
"""

import random
from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Literal, NamedTuple

from retrank.contract.api import MAX_DEADLINE_MS
from retrank.contract.problem_codes import ProblemCode
from retrank.serving.guard.admission import Admission, Priority, Refused
from retrank.serving.guard.caller import LOCAL, Caller, Permission
from retrank.serving.guard.drain import Drain
from retrank.serving.guard.keyring import Keyring
from retrank.serving.guard.quota import Allowance, Quotas, rate_limit_headers
from retrank.serving.guard.settings import GuardSettings
from retrank.serving.telemetry.facade import Telemetry

Headers = list[tuple[bytes, bytes]]
LaneName = Literal["answers", "batches", "writes"]
_READING = ("GET", "HEAD", "OPTIONS")
_ANSWERING = ("/v1/recommend", "/v1/rank", "/v1/similar", "/v1/popular", "/v1/catalogue/", "/v1/items")
_OF_PEOPLE = ("/v1/catalogue/users", "/v1/catalogue/history")  # whom a bundle knows, and what each of them did
_BATCH = "/v1/recommend:batch"  # takes seconds, so that it has a lane of its own: single slates keep their slots
_PRIORITIES = {priority.name.lower().encode(): priority for priority in Priority}


class Need(NamedTuple):
    """What a path asks of its caller: a permission (None: none), and the lane it waits in (None: it does not)."""

    permission: Permission | None
    lane: LaneName | None


def need_of(method: str, path: str) -> Need:
    """Return what a request needs."""
    if path in ("/livez", "/readyz", "/") or path.startswith("/page"):
        return Need(None, None)
    if path in ("/version", "/openapi.json"):
        return Need("read", None)
    if path == "/metrics" or path.startswith("/admin/"):
        return Need("admin", None)
    if path == "/v1/events" or (path.startswith("/v1/items") and method not in _READING):
        return Need("ingest", "writes")
    slate_of_a_user = path.startswith("/v1/users/") and path.endswith("/recommendations") and method in _READING
    if slate_of_a_user or path.startswith(_ANSWERING):
        return Need("admin" if path in _OF_PEOPLE else "read", "batches" if path == _BATCH else "answers")
    return Need("admin", "writes")


def may_drain(path: str) -> bool:
    """Tell whether a path answers 503 while the service is leaving."""
    return path == "/readyz"


class Refusal(Exception):  # noqa: N818  (an answer, not a mistake)
    """Ends a request before it is read."""

    def __init__(self, status: HTTPStatus, code: ProblemCode, detail: str, headers: Headers | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or []


class Entry(NamedTuple):
    """A request that may come in.

    Attributes:
        caller: whose it is.
        lane: where it waits for a slot, to be left when it is answered; None for probes and pages.
        priority: how urgent it is.
        headers: what its answer says about the caller's quota.
        deadline_s: seconds after its arrival by which the caller wants the answer; None when nobody said.
    """

    caller: Caller
    lane: Admission | None
    priority: Priority
    headers: Headers
    deadline_s: float | None = None


class Gate:
    """Decides, for one replica."""

    def __init__(
        self,
        settings: GuardSettings,
        *,
        keyring: Keyring | None,
        drain: Drain,
        clock: Callable[[], float],
        rng: random.Random,
        telemetry: Telemetry,
    ) -> None:
        """Build lanes and buckets.

        Args:
            settings: limits.
            keyring: who may call; None lets everybody in.
            drain: whether the service is leaving.
            clock: monotonic seconds.
            rng: spreads the times at which refused callers come back.
            telemetry: told what was refused, and how long the others waited.
        """
        self.drain = drain
        self._keyring = keyring
        self._quotas = Quotas(settings.quota, clock)
        self._lanes = {
            "answers": Admission(settings.answers, on_in_flight=telemetry.in_flight),
            "batches": Admission(settings.batches, on_in_flight=telemetry.in_flight),
            "writes": Admission(settings.writes, on_in_flight=telemetry.in_flight),
        }
        self._retry_after_s = settings.retry_after_s
        self._rng = rng
        self._telemetry = telemetry

    def check(self, method: str, path: str, headers: dict[bytes, bytes]) -> Entry:
        """Look at a request.

        Raises:
            Refusal: it may not come in.
        """
        need = need_of(method, path)
        if may_drain(path) and self.drain.draining:
            raise self._later(HTTPStatus.SERVICE_UNAVAILABLE, "draining", "this service is leaving")
        caller = LOCAL if self._keyring is None or need.permission is None else self._identify(headers)
        if need.permission is not None and need.permission not in caller.permissions:
            raise self._forbidden(need.permission)
        if need.lane is None:
            return Entry(caller, None, Priority.INTERACTIVE, [])
        allowance = self._quotas.take(caller.key_id or caller.tenant)
        if allowance is not None and not allowance.granted:
            raise self._beyond_quota(allowance)
        quota = [] if allowance is None else rate_limit_headers(allowance)
        return Entry(caller, self._lanes[need.lane], _priority(headers, path), quota, _deadline_s(headers))

    def calm(self) -> bool:
        """Tell, in any thread, whether nobody waits for an answer: no slate is being made, alone or in a batch."""
        return not any(lane.in_flight or lane.waiting for lane in (self._lanes["answers"], self._lanes["batches"]))

    def charge(self, entry: Entry, parts: int) -> None:
        """Take what a request costs that holds several; one was taken when it came in.

        Raises:
            Refusal: its caller has not so much left, or never will; nothing of it may be done.
        """
        allowance = self._quotas.take(entry.caller.key_id or entry.caller.tenant, parts, paid=1)
        if allowance is None:
            return
        entry.headers[:] = rate_limit_headers(allowance)
        if allowance.granted:
            return
        if parts > allowance.limit:
            self._telemetry.shed("quota")
            detail = f"{parts} requests in one; the quota allows {allowance.limit} at once, send fewer of them together"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "batch_beyond_quota", detail, [*entry.headers])
        raise self._beyond_quota(allowance)

    async def wait(self, entry: Entry, gone_s: float = 0.0) -> float:
        """Wait for a slot of the entry's lane; the whole request should be there.

        Args:
            entry: of the request.
            gone_s: seconds since it arrived.

        Returns:
            Seconds spent in the queue.

        Raises:
            Refusal: the service is overloaded.
        """
        assert entry.lane is not None
        try:
            left_s = None if entry.deadline_s is None else max(entry.deadline_s - gone_s, 0.0)
            waited_s = await entry.lane.enter(entry.priority, left_s)
        except Refused as refused:
            raise self.overloaded(refused.reason, entry) from refused
        self._telemetry.queued(waited_s)
        return waited_s

    def overloaded(self, reason: str, entry: Entry) -> Refusal:
        """Count a request that there is no room for, and return what it is told."""
        self._telemetry.shed(reason)
        detail = f"more requests than this replica can answer in time ({reason})"
        return self._later(HTTPStatus.TOO_MANY_REQUESTS, "overloaded", detail, entry.headers)

    def _identify(self, headers: dict[bytes, bytes]) -> Caller:
        assert self._keyring is not None
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        caller = self._keyring.caller(token.strip()) if kind.lower() == "bearer" else None
        if caller is not None:
            return caller
        given = b"authorization" in headers
        self._telemetry.shed("unauthorized")
        raise Refusal(
            HTTPStatus.UNAUTHORIZED,
            "unauthorized",
            "this API key is not valid" if given else "send `Authorization: Bearer retrank_...`",
            [(b"www-authenticate", b'Bearer realm="retrank"' + (b', error="invalid_token"' if given else b""))],
        )

    def _forbidden(self, permission: Permission) -> Refusal:
        self._telemetry.shed("forbidden")
        challenge = f'Bearer realm="retrank", error="insufficient_scope", scope="{permission}"'
        detail = f"this API key has no scope {permission!r}"
        return Refusal(HTTPStatus.FORBIDDEN, "forbidden", detail, [(b"www-authenticate", challenge.encode())])

    def _beyond_quota(self, allowance: Allowance) -> Refusal:
        self._telemetry.shed("quota")
        wait_s = ceil(allowance.wait_s + self._rng.random() * self._retry_after_s)
        headers = [(b"retry-after", str(wait_s).encode()), *rate_limit_headers(allowance)]
        detail = f"more than {allowance.limit} requests at once; the quota refills in {allowance.reset_s:.1f} s"
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "quota_exceeded", detail, headers)

    def _later(self, status: HTTPStatus, code: ProblemCode, detail: str, headers: Headers | None = None) -> Refusal:
        """Ask to come back after 0.5 to 1.5 times the mean, so that those refused together do not return together."""
        wait_s = max(1, round(self._retry_after_s * (0.5 + self._rng.random())))
        return Refusal(status, code, detail, [(b"retry-after", str(wait_s).encode()), *(headers or [])])


def _deadline_s(headers: dict[bytes, bytes]) -> float | None:
    """Return the deadline of the header; None without one, and of one that the route will refuse."""
    said = headers.get(b"x-deadline-ms", b"")
    return int(said) / 1e3 if said.isdigit() and len(said) <= len(str(MAX_DEADLINE_MS)) else None


def _priority(headers: dict[bytes, bytes], path: str) -> Priority:
    asked = headers.get(b"x-priority")
    if asked is None:
        return Priority.BATCH if path.endswith(":batch") else Priority.INTERACTIVE
    found = _PRIORITIES.get(asked.strip().lower())
    if found is None:
        known = ", ".join(name.decode() for name in _PRIORITIES)
        seen = asked[:40].decode("latin-1")
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_header", f"X-Priority is {seen!r}, expected one of {known}")
    return found
