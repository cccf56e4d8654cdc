"""Requests in process, without HTTP: what a slate costs where nothing stands around it.

They are made in a process of their own, which does nothing in between, so that the generator stays as small as it is.
"""

import atexit
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

Here = Callable[[Sequence[bytes], float], tuple[float, float]]
"""From request bodies and seconds to processor milliseconds per request, JSON read and written included: of the whole
handler (live profile, token, decision log), and of the pipeline alone."""
_WARM_S = 0.5
_THREADS = "OMP_NUM_THREADS"
_opened: list[tuple[Callable[..., object], Callable[..., object]]] = []  # of the process that answers


@contextmanager
def in_process(bundle: Path, folder: Path) -> Iterator[Here]:
    """Open a bundle in another process, and yield what asks it, on one thread."""
    before = dict(os.environ)
    os.environ[_THREADS] = "1"
    with ProcessPoolExecutor(1, get_context("spawn"), _open, (bundle, folder)) as pool:
        try:
            pool.submit(len, _opened).result()  # started now, with that environment
        finally:
            os.environ.clear()
            os.environ.update(before)
        yield lambda bodies, seconds: pool.submit(_both, list(bodies), seconds).result()


def _open(bundle: Path, folder: Path) -> None:
    from retrank.serving.backing import open_backing  # noqa: PLC0415  (in the process that answers alone)
    from retrank.serving.picking import Picked  # noqa: PLC0415
    from retrank.serving.recommender import Recommender  # noqa: PLC0415
    from retrank.serving.service import Service  # noqa: PLC0415
    from retrank.serving.settings import Settings  # noqa: PLC0415

    settings = Settings.model_validate(
        {"bundle": str(bundle), "service": {"folder": str(folder), "deadline_ms": 60_000}}
    )
    recommender = Recommender.open(bundle, settings.pipeline)
    handler = Service(lambda _: Picked(recommender), open_backing(settings), settings.service)
    atexit.register(handler.close)
    _opened.append((handler.recommend, recommender.recommend))


def _both(bodies: Sequence[bytes], seconds: float) -> tuple[float, float]:
    handler, pipeline = _opened[0]
    _cpu_ms(handler, bodies, _WARM_S)
    return _cpu_ms(handler, bodies, seconds / 2), _cpu_ms(pipeline, bodies, seconds / 2)


def _cpu_ms(answer: Callable[..., object], bodies: Sequence[bytes], seconds: float) -> float:
    from retrank.contract.api import RecommendRequest, SlateResponse  # noqa: PLC0415

    started, until = time.process_time(), time.perf_counter() + seconds
    for count, body in enumerate(cycle(bodies), start=1):
        slate = answer(RecommendRequest.model_validate_json(body))
        assert isinstance(slate, SlateResponse)
        slate.model_dump_json()
        if time.perf_counter() > until:
            return 1e3 * (time.process_time() - started) / count
    raise ValueError("bodies is empty; expected requests to send")
