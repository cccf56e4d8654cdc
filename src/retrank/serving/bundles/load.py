"""From a bundle on disk to a recommender that may answer: everything that can refuse it, in order of cost.

    verify     every file has its sealed size and hash; nothing is parsed before
    fit        it is of the format, the encoding and the data set the service answers for
    open       graph, index and arrays; golden requests; warm-up
    recall     the index finds what exact search finds, as often as it did when it was sealed
    rehearse   requests served lately get an answer

The order of `Recommender.open` is kept; a bundle that passes has answered real requests before the first user sees it.
Beside requests all of it is done in pieces of milliseconds, see `pace`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrank.contract.api import RecommendRequest
from retrank.contract.bundle import VerifiedBundle, describe, locate, verify
from retrank.contract.errors import BundleError
from retrank.contract.manifest import Manifest
from retrank.contract.rest import Rest, no_rest
from retrank.serving.bundles.recall import sampled_recall
from retrank.serving.recommender import Recommender
from retrank.serving.swap_settings import LoadSettings

Open = Callable[[VerifiedBundle, Rest], Recommender]
"""Open, prove and warm up one bundle, resting between pieces of work."""
Rehearse = Callable[[Recommender], Recommender]
"""Another recommender over the same open bundle that records nothing."""
_FAILED = "_failed"


def load(
    path: Path,
    settings: LoadSettings,
    *,
    beside: Manifest | None,
    requests: Sequence[RecommendRequest],
    opened: Open,
    rehearsal: Rehearse,
    rest: Rest = no_rest,
) -> Recommender:
    """Return a recommender that is ready to answer.

    Args:
        path: the bundle directory.
        settings: what it must show.
        beside: manifest of the bundle that answers now; None at the start, when nobody has to be spared.
        requests: served lately; they are answered again and the answers thrown away.
        opened: opens the bundle.
        rehearsal: gives the recommender that answers them.
        rest: called between pieces of work.

    Raises:
        BundleError: it is refused; the message says why.
    """
    if beside is not None and settings.same_data:
        _check_data(path, beside)
    ready = opened(verify(path, rest), rest)
    _check_recall(ready, settings, rest)
    _rehearse(rehearsal(ready), requests, rest)
    return ready


def _check_data(path: Path, beside: Manifest) -> None:
    bundle_id, manifest = describe(locate(path))
    if manifest.data.name != beside.data.name:
        raise BundleError(
            f"bundle {bundle_id} was trained on {manifest.data.name!r}, the service answers for {beside.data.name!r}; "
            "set serving.bundles.load.same_data=false if that is meant"
        )


def _check_recall(ready: Recommender, settings: LoadSettings, rest: Rest) -> None:
    facts = ready.runtime.manifest.index
    seed = int(ready.bundle.id, 16)  # the same draw whenever and wherever this bundle is opened
    seen = sampled_recall(ready.runtime, settings.recall_queries, np.random.default_rng(seed), rest)
    if not seen >= facts.measured_recall - settings.recall_tolerance:
        raise BundleError(
            f"bundle {ready.bundle.id}: the index finds {seen:.4f} of the exact top {facts.recall_at}, sealed with "
            f"{facts.measured_recall:.4f} and at most {settings.recall_tolerance} less is allowed; export it again"
        )


def _rehearse(ready: Recommender, requests: Sequence[RecommendRequest], rest: Rest) -> None:
    for number, request in enumerate(requests, start=1):
        where = f"bundle {ready.bundle.id}: rehearsal of recent request {number} of {len(requests)}"
        try:
            answer = ready.recommend(request)
        except Exception as error:
            raise BundleError(f"{where} raised {type(error).__name__}; the log has the cause") from error
        failed = [reason for reason in answer.degraded.reasons if reason.endswith(_FAILED)]
        if failed:
            raise BundleError(f"{where} ended with {', '.join(failed)}; the log has the cause")
        rest()
