"""Requests that no sane caller sends, each drawn from a seed of its own so that one can be looked at again alone."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

Header = tuple[bytes, bytes]
JSON = (b"content-type", b"application/json")
_TEXTS = (
    "", " ", "\x00", "\n", "\x7f", "\u202e", "\ud800", "\udfff\ud800", "\U0001f600" * 70, "é" * 256, "a" * 256,
    "a" * 257, "a" * 20_000, "../../etc/passwd", "%s%n%x", "'; DROP TABLE events; --", "{{7*7}}", "NaN", "null", "true",
    "-1",
    "1e999", "2026-01-31T12:00:00Z", "9999-12-31T23:59:59.999999-14:00", "0001-01-01T00:00:00+14:00",
    "2026-02-30T00:00:00Z", "all", "home", "u:1", "trends/default/", "__proto__",
)  # fmt: skip
_NUMBERS = (
    0, -0.0, -1, 1, 2, 200, 201, 1_000, 60_000, 60_001, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40,
    1e-320, 1e308, -1e308, 0.5, 1.5, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
HEADERS: tuple[Header, ...] = (
    (b"content-type", b"application/json"), (b"content-type", b"application/json; charset=utf-16"),
    (b"content-type", b"text/plain"), (b"content-type", b"\xff\xfe"), (b"content-type", b"application/json, text/html"),
    (b"content-length", b"-1"), (b"content-length", b"99999999999999999999999"), (b"content-length", b"\xb2"),
    (b"x-deadline-ms", b"0"), (b"x-deadline-ms", b"1"), (b"x-deadline-ms", b"\xb2"), (b"x-deadline-ms", b"1e3"),
    (b"x-deadline-ms", b"9" * 400), (b"x-deadline-ms", b"00001"), (b"x-request-id", b"a" * 257), (b"x-request-id", b""),
    (b"x-request-id", b"\xe9\xff"), (b"x-request-id", b"a\tb"), (b"x-priority", b"batch"), (b"x-priority", b"\xff"),
    (b"authorization", b"Bearer "), (b"authorization", b"Bearer retrank_x_y"), (b"authorization", b"Basic \xff\xff"),
    (b"accept", b"*/*;q=1e999"), (b"accept-encoding", b"gzip, br"), (b"content-encoding", b"gzip"),
    (b"transfer-encoding", b"chunked"), (b"host", b""), (b"host", b"a:99999999"), (b"host", b"[::1"),
    (b"range", b"bytes=5-1"),
    (b"range", b"bytes=0-0,1-1,-"), (b"if-modified-since", b"\xff"), (b"if-none-match", b'"' * 300),
    (b"traceparent", b"00-" + b"f" * 32 + b"-" + b"0" * 16 + b"-01"), (b"traceparent", b"\xff" * 55),
    (b"cookie", b"=" * 4_000), (b"x-forwarded-for", b"1.1.1.1, \xff"), (b"upgrade", b"websocket"),
    (b"expect", b"100-continue"),
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "")
_PIECES = (
    "/", "//", "..", "%2e%2e", "%2f", "%00", "%ff", "%", "%zz", ":", ":erase", ":export", ":batch", "*", "\\", ";", "é",
    "availability", "v1", "recommend", "items", "users", "page", "index.html", "a" * 300, "metrics", "admin", "~", "+",
)  # fmt: skip


class Case(NamedTuple):
    """One request as a server would hand it on.

    Attributes:
        chunks: the body as it arrives.
        hangs_up: the client is gone after the last chunk, before the body is complete.
    """

    method: str
    target: str
    headers: Sequence[Header]
    chunks: Sequence[bytes]
    hangs_up: bool = False


class World(NamedTuple):
    """Ids that exist, so that mutations start from requests that mean something."""

    items: Sequence[str]
    users: Sequence[str]


def draw(world: World, rng: random.Random) -> Case:
    """Return one request: a valid one with a few things wrong, or in one case of four nothing but noise."""
    method, target, body = rng.choice(_VALID)(world, rng)
    kind = rng.random()
    headers = [JSON]
    if kind < 0.6:
        body = _encoded(_mutated(body, rng), rng)
    elif kind < 0.75:
        body = _broken(_encoded(body, rng), rng)
    elif kind < 0.85:
        body = _encoded(_anything(rng, 4), rng)
    elif kind < 0.9:
        body = rng.randbytes(rng.choice((0, 1, 7, 64, 1_000, 20_000)))
    else:
        target, body = _other_target(target, rng), _encoded(body, rng)
    if rng.random() < 0.15:
        headers = [*rng.sample(headers, rng.randint(0, 1)), *rng.choices(HEADERS, k=rng.randint(1, 4))]
    if rng.random() < 0.05:
        method = rng.choice(_METHODS)
    if rng.random() < 0.05:
        pairs = "&".join(f"{rng.choice(_TEXTS)[:40]}={rng.choice(_TEXTS)[:40]}" for _ in range(3))
        target += "?" + quote(pairs.encode("utf-8", "replace"), safe="&=%+")
    hangs_up = rng.random() < 0.01
    return Case(method, target, headers, _chunked(body, rng), hangs_up)


def _recommend(world: World, rng: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"k": rng.randint(1, 20)}
    optional: dict[str, Callable[[], Any]] = {
        "user_id": lambda: rng.choice(world.users),
        "anonymous_id": lambda: f"a{rng.randint(1, 50)}",
        "session": lambda: {"id": f"s{rng.randint(1, 50)}", "recent": rng.choices(world.items, k=rng.randint(0, 5))},
        "placement": lambda: rng.choice(("home", "basket")),
        "context": lambda: {"device": "phone", "hour": 5, "new": True},
        "seed_items": lambda: rng.choices(world.items, k=2),
        "exclude_items": lambda: rng.choices(world.items, k=3),
        "exclude_seen": lambda: rng.random() < 0.5,
        "seen": lambda: {"types": ["click", "purchase"], "days": 30},
        "filter": lambda: _filter(rng, 3),
        "diversity": lambda: rng.choice(({"mode": "mmr", "strength": 0.4}, {"mode": "cap", "caps": {"brand": 2}})),
        "explore": lambda: {"policy": rng.choice(("epsilon", "softmax")), "strength": 0.2, "seed": 7},
        "explain": lambda: rng.random() < 0.5,
        "fields": lambda: ["title", "price"],
        "deadline_ms": lambda: rng.choice((1, 20, 60_000)),
        "request_id": lambda: f"r{rng.randint(1, 99)}",
    }
    for name in rng.sample(sorted(optional), rng.randint(0, 6)):
        body[name] = optional[name]()
    return body


def _filter(rng: random.Random, depth: int) -> dict[str, Any]:
    if depth and rng.random() < 0.6:
        name = rng.choice(("all", "any", "not"))
        parts = [_filter(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        return {name: parts[0] if name == "not" else parts}
    return rng.choice(
        (
            {"eq": {"attribute": "brand", "value": "brand 3"}},
            {"in": {"attribute": "brand", "values": ["brand 1", 2, True]}},
            {"range": {"attribute": "price", "gte": 5, "lt": 50.5}},
            {"exists": {"attribute": "price"}},
        )
    )


def _event(world: World, rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("impression", "click", "cart", "purchase", "rating", "dismiss", "custom"))
    event: dict[str, Any] = {"event_id": f"e{rng.getrandbits(40)}", "type": kind, "item_id": rng.choice(world.items)}
    event |= {"user_id": rng.choice(world.users), "value": rng.choice((1, 4.5)), "placement": "home", "name": "saved"}
    return event | ({"at": "2026-01-31T12:00:00Z", "context": {"a": [1, {"b": None}]}} if rng.random() < 0.3 else {})


def _path_id(known: Sequence[str], rng: random.Random) -> str:
    text = rng.choice(known) if rng.random() < 0.7 else rng.choice(_TEXTS)[:300]
    return quote(text.encode("utf-8", "replace"), safe="" if rng.random() < 0.7 else "/:.")


_Made = tuple[str, str, Any]


def _slates(world: World, rng: random.Random) -> _Made:
    kind = rng.randrange(6)
    if kind < 2:
        return "POST", "/v1/recommend", _recommend(world, rng)
    if kind == 2:
        return "POST", "/v1/recommend:batch", {"requests": [_recommend(world, rng) for _ in range(rng.randint(1, 4))]}
    if kind == 3:
        return "POST", "/v1/rank", {"user_id": rng.choice(world.users), "items": rng.choices(world.items, k=9)}
    if kind == 4:
        return "POST", "/v1/similar", {"item_id": rng.choice(world.items), "k": 5, "filter": _filter(rng, 1)}
    window = rng.choice(("24h", "7d", "all", ""))
    return "GET", f"/v1/popular?k={rng.choice((1, 5, 0, 'x'))}&window={window}", {}


def _events(world: World, rng: random.Random) -> _Made:
    return "POST", "/v1/events", {"events": [_event(world, rng) for _ in range(rng.choice((1, 1, 5)))]}


def _items(world: World, rng: random.Random) -> _Made:
    path, kind = f"/v1/items/{_path_id(world.items, rng)}", rng.randrange(5)
    if kind == 0:
        return "PUT", path, {"attributes": {"price": 9}, "available": True}
    if kind == 1:
        return "PUT", f"{path}/availability", {"available": rng.random() < 0.9}
    if kind == 2:
        return "PATCH", path, {"attributes": {"tag": None}}
    if kind == 3:
        return "DELETE", path, {}
    upsert = {"item_id": rng.choice(world.items), "action": "upsert", "attributes": {"price": 2.5, "tag": "x"}}
    patch = {"item_id": rng.choice(world.items), "action": "patch", "available": True}
    return (
        "POST",
        "/v1/items:bulk",
        {"items": [upsert, patch, {"item_id": rng.choice(world.items), "action": "delete"}]},
    )


def _people(world: World, rng: random.Random) -> _Made:
    path = f"/v1/users/{_path_id(world.users, rng)}"
    return ("DELETE", path, {}) if rng.random() < 0.4 else ("POST", path + rng.choice((":erase", ":export", "")), {})


def _reads(world: World, rng: random.Random) -> _Made:
    path = rng.choice(
        (
            f"/v1/catalogue/items?query={_path_id(world.items, rng)}&limit=3",
            f"/v1/catalogue/history?user_id={_path_id(world.users, rng)}",
            *(
                "/livez",
                "/readyz",
                "/version",
                "/metrics",
                "/openapi.json",
                "/",
                "/page/page.js",
                "/v1/catalogue/users",
            ),
        )
    )
    return "GET", path, {}


_LARGE = 20_000
"""Characters of JSON beyond which a body is left as it is."""
_VALID = (_slates, _slates, _events, _items, _people, _reads)


def _anything(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 5)
    if kind < 2:
        return rng.choice(_TEXTS)
    if kind < 4:
        return rng.choice(_NUMBERS)
    if kind == 4:
        return rng.choice((None, True, False, [], {}))
    if kind < 7:
        return {rng.choice(_TEXTS): _anything(rng, depth - 1) for _ in range(rng.randint(0, 4))}
    return [_anything(rng, depth - 1) for _ in range(rng.randint(0, 5))]


def _mutated(value: Any, rng: random.Random) -> Any:
    """Return a copy with one to three places changed; in one case of ten as it was."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 2, 3, 3))):
        places = list(_places(value))
        if not places:
            return _anything(rng, 3)
        holder, key = rng.choice(places)
        _change(holder, key, rng, value)
        if _is_large(value):  # a thousand copies of a thousand copies would be sent by nobody, nor fit anywhere
            break
    return value


def _is_large(value: Any) -> bool:
    try:
        return len(json.dumps(value)) > _LARGE
    except RecursionError:
        return True


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container with each of its keys."""
    found: list[tuple[Any, Any]] = []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found.append((value, key))
        found += _places(inner)
    return found


def _change(holder: Any, key: Any, rng: random.Random, whole: Any) -> None:
    kind = rng.randrange(8)
    if kind < 3:
        holder[key] = _anything(rng, rng.choice((0, 0, 2)))
    elif kind == 3:
        del holder[key]
    elif kind == 4:
        holder[key] = json.loads(json.dumps(whole))
    elif kind == 5:
        holder[key] = [holder[key]] * rng.choice((1, 2, 51, 201, 1_001))
    elif kind == 6:
        for _ in range(rng.choice((1, 4, 14, 15, 16, 200))):
            holder[key] = rng.choice(([holder[key]], {"all": [holder[key]]}, {"not": holder[key]}))
    elif isinstance(holder, dict):
        holder[rng.choice(_TEXTS)] = holder[key]


def _encoded(value: Any, rng: random.Random) -> bytes:
    try:
        if rng.random() < 0.3:
            return json.dumps(value, ensure_ascii=False).encode("utf-8", rng.choice(("replace", "surrogatepass")))
        return json.dumps(value).encode(rng.choices(("utf-8", "utf-16"), (60, 1))[0])
    except RecursionError:
        return b"[" * 5_000


def _broken(text: bytes, rng: random.Random) -> bytes:
    """Return a text with a few bytes flipped, cut, repeated or put in."""
    body = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        kind = rng.randrange(6)
        if kind == 0 and at < len(body):
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at:at] = rng.randbytes(rng.randint(1, 4))
        elif kind == 2:
            del body[at : at + rng.randint(1, 10)]
        elif kind == 3:
            del body[at:]
        elif kind == 4:
            body[at:at] = body[: rng.randint(1, 200)]
        else:
            body[at:at] = rng.choice(
                (b"\xef\xbb\xbf", b'"', b"\\u0000", b"\\ud800", b"[" * 900, b"1e999", b"//", b"\x00", b"," * 9)
            )
    return bytes(body)


def _other_target(target: str, rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return "/" + "/".join(rng.choices(_PIECES, k=rng.randint(1, 6)))
    if kind == 1:
        return "/page/" + "".join(rng.choices(_PIECES, k=rng.randint(1, 4)))
    at = rng.randrange(len(target) + 1)
    return target[:at] + rng.choice(_PIECES) + target[at + rng.randint(0, 3) :]


def _chunked(body: bytes, rng: random.Random) -> Sequence[bytes]:
    kind = rng.random()
    if kind < 0.002:
        return [b'{"k": "' + b"x" * (1 << 19), *[b"x" * (1 << 19)] * 3]  # larger than any body may be
    if kind < 0.9 or len(body) < 2:
        return [body]
    cut = rng.randrange(1, len(body))
    return [body[:cut], b"", body[cut:]]
