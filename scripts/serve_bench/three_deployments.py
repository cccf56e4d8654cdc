"""The straightforward Ray Serve application: ingress, retriever and ranker as three deployments. A peer, not a product.

It answers the same question from the same bundle with the same library code for encoding, searching and ranking. What
differs is how it is put together, which is how Serve's own tutorials do it: a FastAPI ingress that awaits one
deployment after the other. No live profile, no exploration, no tokens, no event or decision log.

    python scripts/serve_bench/three_deployments.py --bundle BUNDLE --port 8100 [--throughput]

`--throughput` starts it as well as Serve can: HAProxy in front, the throughput flags, and uvloop.
"""

import argparse
import logging
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retrank.contract.api import Source
from retrank.contract.candidate_features import Asker
from retrank.contract.proposals import Proposal, merge
from retrank.serving import ingress

K = 20
NUM_CANDIDATES = 200
Rows = NDArray[np.int64]


class Ask(BaseModel):
    """Body of a request."""

    user_id: str
    k: int = K


def main() -> None:
    arguments = _arguments()
    with ExitStack() as stack:
        if arguments.throughput:
            os.environ["RAY_USE_UVLOOP"] = "1"  # what Ray uses where nobody says otherwise
            stack.enter_context(ingress.prepared(os.environ, ingress.LOOPBACK))
        else:
            # Ray's default niceness of 15 would starve it beside the generator; how it is built has no part in that.
            quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
            os.environ |= quiet | {"RAY_worker_niceness": "0"}
        _serve(arguments.bundle, arguments.port)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--throughput", action="store_true")
    return parser.parse_args()


def _serve(bundle: Path, port: int) -> None:
    import ray  # noqa: PLC0415  (reads the environment when it is imported)
    from ray import serve  # noqa: PLC0415

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    serve.start(http_options={"host": ingress.LOOPBACK, "port": port})
    serve.run(_application(bundle))
    print(f"ready on {port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()  # type: ignore[no-untyped-call]  # Ray's own signature
    ray.shutdown()


def _application(bundle: Path) -> Any:
    from fastapi import FastAPI  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    from retrank.contract.bundle import verify  # noqa: PLC0415
    from retrank.serving.runtime import open_runtime  # noqa: PLC0415

    class Retriever:
        """Encodes a history and searches the index."""

        def __init__(self) -> None:
            self._runtime = open_runtime(verify(bundle))

        async def retrieve(self, history: Rows, ages: Rows) -> tuple[NDArray[np.float32], Rows]:
            query = self._runtime.encoder.encode(history, ages, np.zeros_like(ages), self._runtime.fields.untold)
            return query, self._runtime.index.search(query, NUM_CANDIDATES + len(history))

    class Ranker:
        """Scores candidates."""

        def __init__(self) -> None:
            self._runtime = open_runtime(verify(bundle))

        async def rank(
            self, history: Rows, ages: Rows, query: NDArray[np.float32], rows: Rows, now: float
        ) -> tuple[Rows, NDArray[np.float32]]:
            vectors, second = self._runtime.item_vectors, self._runtime.second
            if second is None:
                kept = rows[~np.isin(rows, history)][:NUM_CANDIDATES]
                return kept, vectors[kept] @ query
            proposals: dict[Source, Proposal] = {"sequence": Proposal(rows, np.zeros(len(rows), dtype=np.float32))}
            merged = merge(proposals, np.unique(history), second.spec.limits)
            return merged.rows, second.score(merged, Asker(history, ages, np.zeros_like(ages), query, now), vectors)

    app = FastAPI()

    @serve.deployment
    @serve.ingress(app)
    class Ingress:
        """Looks the user up and asks one deployment after the other."""

        def __init__(self, retriever: Any, ranker: Any) -> None:
            self._runtime = open_runtime(verify(bundle))
            self._retriever, self._ranker = retriever, ranker

        @app.post("/v1/recommend")
        async def recommend(self, ask: Ask) -> dict[str, Any]:
            runtime = self._runtime
            history = runtime.histories.of(runtime.users.row(ask.user_id) - 1).astype(np.int64)
            ages = np.zeros(len(history), dtype=np.int64)
            query, rows = await self._retriever.retrieve.remote(history, ages)
            rows, scores = await self._ranker.rank.remote(history, ages, query, rows, 0.0)
            best = np.argsort(-scores)[: ask.k]
            attributes = runtime.attributes.of(rows[best])
            items = [
                {"item_id": runtime.items.id(int(row)), "score": float(score), "attributes": shown}
                for row, score, shown in zip(rows[best], scores[best], attributes, strict=True)
            ]
            return {"items": items}

    retriever = serve.deployment(name="Retriever")(Retriever).bind()
    ranker = serve.deployment(name="Ranker")(Ranker).bind()
    return Ingress.bind(retriever, ranker)  # type: ignore[attr-defined]  # made by the decorator


if __name__ == "__main__":
    main()
