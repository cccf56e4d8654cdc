"""Where fuzzed requests come from: four engines that each see something else. Every one only calls `Judge.send`.

own           valid requests with up to three things wrong, noise, strange headers and paths; see `fuzz_cases`
hypothesis    what the committed OpenAPI document describes, and what differs from it in a place or two
schemathesis  what that library makes of the same document, fitting and not
atheris       bytes that reach code no request reached before; in a process of its own, see `fuzz_guided.py`
"""

import copy
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from stress import from_schema
from stress.fuzz_cases import Case, World, draw
from stress.judged import Found, Judge

SCRIPTS = Path(__file__).parents[1]
DOCUMENT = SCRIPTS.parent / "docs" / "openapi.json"
_BATCH = 250
"""Examples that Hypothesis remembers at a time, to draw none twice."""
_LEVELS, _LISTED = 3, 3
Look = Callable[[], None]


def own(judge: Judge, world: World, count: int, first_seed: int, look: Look) -> None:
    """Send requests of our own generator; request n of a seed is the same in every run."""
    for number in range(count):
        if judge.is_over:
            return
        judge.send(draw(world, random.Random(f"{first_seed}/{number}")), f"{first_seed}/{number}")
        look()


def hypothesis(judge: Judge, world: World, count: int, first_seed: int, look: Look) -> None:
    """Send what Hypothesis makes of the schemas."""
    cases = from_schema.requests(json.loads(DOCUMENT.read_text()), world)
    _examples(judge, cases, count, first_seed, look, lambda case: case)


def with_schemathesis(judge: Judge, world: World, count: int, first_seed: int, look: Look) -> None:
    """Send what Schemathesis makes of the document, a fair share of each operation."""
    del world
    document = schemathesis.openapi.from_dict(finite(json.loads(DOCUMENT.read_text())))
    found: Any = document.get_all_operations()
    operations = sorted((one.ok() for one in found), key=_num_inputs)  # those with few are soon at an end
    kinds = schemathesis.GenerationMode
    sent = judge.found.sent
    for number, operation in enumerate(operations):
        both = fitting = operation.as_strategy(generation_mode=kinds.POSITIVE)
        if _num_inputs(operation):
            both = fitting | operation.as_strategy(generation_mode=kinds.NEGATIVE)
        share = (count - (judge.found.sent - sent)) // (len(operations) - number)
        _examples(judge, both, share, first_seed + number, look, _as_case)


def _num_inputs(operation: Any) -> int:
    return 10 * bool(operation.body) + sum(1 for _ in operation.iter_parameters())


def _examples(
    judge: Judge, strategy: Any, count: int, first_seed: int, look: Look, as_case: Callable[[Any], Case]
) -> None:
    """Draw in batches, each with a seed of its own, until the count is reached or nothing new comes."""
    goal, turn = judge.found.sent + count, 0
    while judge.found.sent < goal and not judge.is_over and turn < 2 + 20 * count // _BATCH:
        turn += 1
        _batch(judge, strategy, goal, f"{first_seed}/{turn}", as_case, look)


def _batch(judge: Judge, strategy: Any, goal: int, name: str, as_case: Callable[[Any], Case], look: Look) -> None:
    @seed(name)
    @settings(
        max_examples=min(_BATCH, goal - judge.found.sent),
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def examples(drawn: Any) -> None:
        if judge.found.sent < goal:
            judge.send(as_case(drawn), f"{name}/{judge.found.sent}")
            look()

    examples()


def _as_case(drawn: Any) -> Case:
    """Return what `requests` would put on the wire."""
    from requests import Request  # noqa: PLC0415  (comes with schemathesis)

    wanted = drawn.as_transport_kwargs(base_url="http://127.0.0.1")
    wired = Request(**{key: value for key, value in wanted.items() if value is not None}).prepare()
    said: Any = wired.body or b""
    body = said.encode("utf-8", "surrogatepass") if isinstance(said, str) else bytes(said)
    headers = [(_latin(name).lower(), _latin(value)) for name, value in wired.headers.items()]
    return Case(wired.method or "GET", wired.path_url, headers, [body])


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


def finite(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with filters of at most three levels and short lists.

    A filter holds up to 64 filters. Made up from that, nearly every one is thrown away as too large after seconds of
    drawing.
    """
    schemas = dict(document["components"]["schemas"])
    for level in range(_LEVELS):
        node = copy.deepcopy(schemas["Filter"])
        below = {"$ref": f"#/components/schemas/Filter{level + 1}"}
        for name in ("all", "any"):
            (listed,) = [one for one in node["properties"][name]["anyOf"] if one["type"] == "array"]
            listed.update(items=below, maxItems=_LISTED)
        node["properties"]["not"] = {"anyOf": [below, {"type": "null"}]}
        if level == _LEVELS - 1:
            for name in ("all", "any", "not"):
                node["properties"][name] = {"type": "null"}
        schemas[f"Filter{level}"] = node
    schemas["Filter"] = schemas["Filter0"]
    return {**document, "components": {**document["components"], "schemas": schemas}}


def can_be_guided() -> bool:
    """Tell whether atheris is installed."""
    return find_spec("atheris") is not None


def guided(bundle: Path, count: int, first_seed: int, *, within_s: float, most_s: float) -> Found:
    """Let atheris look for inputs in a process of its own, and return what it found."""
    with tempfile.TemporaryDirectory(prefix="guided-") as folder:
        told = Path(folder) / "found.json"
        command = [sys.executable, str(SCRIPTS / "fuzz_guided.py"), "--bundle", str(bundle), "--count", str(count)]
        command += ["--seed", str(first_seed), "--within", f"{within_s:g}", "--found", str(told)]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=most_s, check=False)
            said = f"exit {done.returncode}: {done.stderr[-300:]}"
        except subprocess.TimeoutExpired:
            said = f"not at its end after {most_s:g} s"
        if not told.exists():
            raise SystemExit(f"fuzz_guided.py left nothing behind, {said}")
        read = json.loads(told.read_text())
    found = Found(Counter({int(status): number for status, number in read["statuses"].items()}), read["faults"])
    found.slowest_s, found.seconds = read["slowest_s"], read["seconds"]
    if found.sent < count and not found.faults:
        found.faults[f"atheris ended after {found.sent:,} of {count:,} requests, {said}"] = ["the last one"]
    return found
