"""What is to be served against what counting alone achieves, on the same data and test cases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrank.contract.errors import ConfigError
from retrank.data.splits import split_store
from retrank.data.store import EventStore
from retrank.metrics.bootstrap import PairedDifference, paired_bootstrap
from retrank.metrics.case_ranks import SavedRanks
from retrank.training.compare import check_comparable
from retrank.training.evaluate import baselines_of, recipes_named
from retrank.training.report import METRIC, RANKS


def leads_over(
    names: Sequence[str], run_dir: Path, config: Mapping[str, Any], store: EventStore
) -> dict[str, PairedDifference]:
    """Return NDCG@10 of a run minus that of each named baseline, paired by user.

    Args:
        names: baselines, chosen and evaluated as `retrank train` does; its tables are used where they are kept.
        run_dir: of the model that will order the slate: the ranker's where there is one.
        config: of the retriever, whose split it is.
        store: that the run was trained on.

    Raises:
        ConfigError: a baseline of that name does not exist.
        DataError: the run was evaluated on other data, by another protocol or on other cases than the baselines.
    """
    if not names:
        return {}
    try:
        recipes = recipes_named(names)
    except ConfigError as error:
        raise ConfigError(f"sealing.gates.not_worse_than: {error}") from error
    own = SavedRanks.load(run_dir / RANKS)
    table = baselines_of(store, split_store(config["split"], store), recipes=recipes)
    for row in table.rows:
        rival = SavedRanks(row.ranks, table.data_hash, table.protocol)
        check_comparable(rival, own, names=(f"baseline {row.name}", str(run_dir)))
    values = own.ranks.per_case((10,))[METRIC]
    return {
        row.name: paired_bootstrap(row.ranks.per_case((10,))[METRIC], values, own.ranks.users) for row in table.rows
    }
