"""Look at every setting of `retrank rank` before the past run is trained, which takes as long as the run did."""

from collections.abc import Mapping
from typing import Any

from retrank.config import instantiate, values_of
from retrank.contract.errors import ConfigError
from retrank.data.store import EventStore
from retrank.training.ema import Ema
from retrank.training.ranking.heads import HeadSettings, marks_of
from retrank.training.ranking.load import build, spec_of
from retrank.training.ranking.module import check_batches
from retrank.training.ranking.sources import SourceSettings, item_numbers
from retrank.training.ranking.windows import Retriever
from retrank.training.trainer import TrainerSettings


def check_settings(
    config: Mapping[str, Any],
    store: EventStore,
    retriever: Retriever,
    heads: list[HeadSettings],
    sources: SourceSettings,
) -> None:
    """Build once, and throw away, what the settings stand for.

    Args:
        config: of `retrank rank`, with `num_actions` settled.
        store: the data.
        retriever: the run whose candidates are ranked.
        heads: what is predicted.
        sources: what proposes.

    Raises:
        ConfigError: a setting is wrong; the message names it.
    """
    for name in ("history_length", "visit_hours"):
        with values_of(name):
            if not config[name] > 0:
                raise ConfigError(f"{name} is {config[name]}; expected a number above 0")
    with values_of("min_shown_share"):
        if not 0 <= config["min_shown_share"] <= 1:
            raise ConfigError(f"min_shown_share is {config['min_shown_share']}; expected 0..1")
    for name, cases in (("validation", retriever.split.validation), ("test", retriever.split.test)):
        if len(cases) == 0:
            raise ConfigError(
                f"run={config['run']}: nobody with a history met a new item in its {name} window; train the run with a "
                f"larger split.{name}_share"
            )
    item_numbers(store.item_table, sources.numbers)
    marks_of(store, heads)
    with values_of("batches"):
        check_batches(**config["batches"])
    settings: TrainerSettings = instantiate(config["trainer"])
    Ema(settings.ema_decay)
    instantiate(config["optim"])
    instantiate(config["logger"])
    features = spec_of(config, heads, sources).features
    build(config, (len(features), retriever.scorer.model.width), heads)
    with values_of("ranker.loss"):
        instantiate(config["ranker"]["loss"])([head.head for head in heads])
