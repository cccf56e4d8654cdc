"""Say where the processor time of one slate goes: JSON in and out, in process, on one thread.

    python scripts/profile_slate.py --bundle bundles/big

Times are of the thread and not of the clock on the wall, and of every request the least of several rounds counts: so a
machine that does other things beside disturbs them little, though not at all. What other threads of the process take
meanwhile (the writer of the decision log) is given for itself.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from serve_bench import requests as bodies_of

from retrank.contract.api import RecommendRequest
from retrank.serving.backing import open_backing
from retrank.serving.picking import Picked
from retrank.serving.recommender import Recommender
from retrank.serving.service import Service
from retrank.serving.settings import ServiceSettings, Settings

WARM_UP = 2


class Timed:
    """Something whose calls are timed, on the calling thread."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.seconds = 0.0

    def run(self, *arguments: Any) -> Any:
        return self._timed(self._inner.run, arguments)

    def search(self, *arguments: Any) -> Any:
        return self._timed(self._inner.search, arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _timed(self, call: Any, arguments: tuple[Any, ...]) -> Any:
        started = time.thread_time()
        found = call(*arguments)
        self.seconds += time.thread_time() - started
        return found


def main() -> None:
    """Print milliseconds per request, for plain requests and for those that ask for everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(bundle=asked.bundle, service=ServiceSettings(folder=Path(folder), deadline_ms=60_000))
        recommender = Recommender.open(asked.bundle, settings.pipeline)
        service = Service(lambda _: Picked(recommender), open_backing(settings), settings.service)
        for name, bodies in (("plain", bodies_of.plain(asked.bundle)), ("full", bodies_of.full(asked.bundle))):
            _print(name, _measured(service, bodies[: asked.requests], asked.rounds))
        service.close()


def _measured(service: Service, bodies: list[bytes], rounds: int) -> dict[str, float]:
    runtime = service.recommender.runtime
    encoder, index = Timed(runtime.encoder._session), Timed(runtime.index._index)
    runtime.encoder._session, runtime.index._index = encoder, index  # type: ignore[assignment]  # stands in for both
    timed = {"encoder": encoder, "index": index}
    if runtime.second is not None:
        timed["ranker"] = Timed(runtime.second.session)
        object.__setattr__(runtime.second, "session", timed["ranker"])
    least = np.full((len(bodies), 1 + len(timed)), np.inf)
    beside = []
    for round_ in range(WARM_UP + rounds):
        process, thread = time.process_time(), time.thread_time()
        for place, body in enumerate(bodies):
            before = time.thread_time(), *(one.seconds for one in timed.values())
            service.recommend(RecommendRequest.model_validate_json(body)).model_dump_json()
            after = time.thread_time(), *(one.seconds for one in timed.values())
            if round_ >= WARM_UP:
                least[place] = np.minimum(least[place], np.subtract(after, before))
        beside.append(((time.process_time() - process) - (time.thread_time() - thread)) / len(bodies))
    total, *parts = (1e3 * least.mean(axis=0)).tolist()
    own = {"Python": total - sum(parts), **dict(zip(timed, parts, strict=True))}
    return {"total": total, **own, "other threads": 1e3 * float(np.median(beside))}


def _print(name: str, ms: dict[str, float]) -> None:
    print(f"{name:6}" + ", ".join(f"{part} {spent:.2f}" for part, spent in ms.items()) + " ms of processor time")


if __name__ == "__main__":
    main()
