"""What a model that reads content is told of the items of a catalogue."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra

from retrank.config import check_described, instantiate
from retrank.contract.errors import ConfigError
from retrank.contract.item_content import ItemEncoding
from retrank.data.item_content import ItemContent
from retrank.data.splits import Split
from retrank.data.store import EventStore
from retrank.metrics.catalogue import item_counts

ITEM_ENCODING = "item_encoding.json"
_EXAMPLE = "'item_content={_target_: retrank.data.item_content.ItemContent, categories: [category]}'"


def item_side(config: Mapping[str, Any], store: EventStore, split: Split, run_dir: Path) -> dict[str, Any]:
    """Return what a model that reads content needs to know of the items; nothing if the run is not set up for it.

    What was learned from the catalogue is kept in the run folder: new items are described by it, and so is every item
    when the run continues.
    """
    if config["item_content"] is None:
        return {}
    check_described("item_content", config["item_content"], _EXAMPLE)
    kind = config["model"]["_target_"]
    if "content" not in inspect.signature(hydra.utils.get_object(kind)).parameters:
        raise ConfigError(f"{kind.rpartition('.')[2]} reads no item content; use model=two_tower or item_content=null")
    kept = run_dir / ITEM_ENCODING
    if not kept.is_file():
        chosen: ItemContent = instantiate(config["item_content"])
        run_dir.mkdir(parents=True, exist_ok=True)
        chosen.fit(store.item_table).save(kept)
    content = ItemEncoding.load(kept).encode_catalogue(store.item_table)
    return {"content": content._replace(touched=item_counts(split.train, store.num_items) > 0)}
