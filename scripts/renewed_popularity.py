"""What a list of popular items is worth when it is counted again every so often: no model, one half-life at a time.

    python scripts/renewed_popularity.py --store stores/deskdrop --validation-share 0.02

Counts start from everything before the validation window, and are renewed every so many hours with what everybody did
since; a case is answered with the last renewal before its first target. "never" is what the other figures of a
benchmark page stand on. Both windows are shown; choose a half-life by validation. With `--against RUN` the last column
is NDCG@10 of that run minus the list's, on the same cases, with the 95 % interval of a paired bootstrap over users.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrank.contract.sequences import Sequences
from retrank.data.splits import GlobalTemporal
from retrank.data.store import EventStore
from retrank.metrics.bootstrap import paired_bootstrap
from retrank.metrics.case_ranks import CaseRanks, SavedRanks
from retrank.models.baselines.popularity import DecayedPopularity
from retrank.training.evaluator import evaluate
from retrank.training.ranking.renewal import Renewals, renewals

HOURS = (float("inf"), 168.0, 24.0, 6.0, 1.0)
HALF_LIVES_DAYS = (0.25, 1.0, 3.0, 10.0)


class RenewedPopularity:
    """Decayed popularity as of the last renewal before each request.

    Args:
        renewed: when it is counted again, and from what.
        half_life_days: days after which an event counts half, > 0.
        num_items: catalogue size N.
    """

    def __init__(self, renewed: Renewals, half_life_days: float, num_items: int) -> None:
        self._renewed, self._half_life_days, self._num_items = renewed, half_life_days, num_items

    def score(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, N + 1]` float32 scores for B histories that have a moment."""
        assert histories.asked_at is not None, "a case has a moment"
        numbers = [self._renewed.number(int(moment)) for moment in histories.asked_at]
        scores = np.empty((len(histories), self._num_items + 1), dtype=np.float32)
        for number in set(numbers):
            counted = DecayedPopularity(self._half_life_days)
            counted.fit(self._renewed.known_at(number), self._num_items)
            scores[[at for at, own in enumerate(numbers) if own == number]] = counted.item_scores
        return scores


def main() -> None:
    args = arguments()
    store = EventStore.open(args.store)
    rule = GlobalTemporal(validation_share=args.validation_share)
    split, (since, _) = rule(store.sequences), rule.cuts(store.sequences)
    rival = None if args.against is None else SavedRanks.load(args.against / "ranks.npz").ranks
    print(f"{store.facts.name} · {split.protocol} · {len(split.test)} test cases")
    print(
        f"{'renewed every':>14} {'half-life':>10} {'validation NDCG@10':>19} {'test NDCG@10':>13} {'HR@10':>7}", end=""
    )
    print(f" {'Recall@100':>11}")
    for hours in HOURS:
        for half_life in HALF_LIVES_DAYS:
            renewed = renewals(store.sequences, since, min(hours, 24.0 * 36_500))
            assert renewed is not None
            scorer = RenewedPopularity(renewed, half_life, store.num_items)
            found = [evaluate(scorer, cases, split.train, ks=(10, 100)) for cases in (split.validation, split.test)]
            validation, test = (each.metrics for each in found)
            often = "never" if hours == float("inf") else f"{hours:g} h"
            print(f"{often:>14} {half_life:>8g} d {validation['ndcg@10']:>19.4f} {test['ndcg@10']:>13.4f}", end="")
            print(f" {test['hr@10']:>7.4f} {test['recall@100']:>11.4f}{_lead(rival, found[1].ranks)}", flush=True)


def _lead(rival: CaseRanks | None, own: CaseRanks) -> str:
    if rival is None:
        return ""
    if not np.array_equal(rival.targets, own.targets):
        raise SystemExit("the run was evaluated on other cases; use its store and --validation-share")
    before, after = (ranks.per_case((10,))["ndcg@10"] for ranks in (own, rival))
    lead = paired_bootstrap(before, after, own.users)
    return f"   {lead.difference:+.4f} ({lead.low:+.4f} .. {lead.high:+.4f})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="root of a store with event times")
    parser.add_argument("--validation-share", type=float, default=0.1)
    parser.add_argument("--against", type=Path, help="folder of a run evaluated on the same cases")
    return parser.parse_args()


if __name__ == "__main__":
    main()
