"""A verified bundle, opened for answering: graph, index and arrays, on one thread and mapped where possible.

Replicas on one host share the pages of every mapped file. Nothing is parsed before `contract.bundle.verify` has
compared its hash, and no file is ever unpickled.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from retrank.contract import bundle as layout
from retrank.contract.actions import ActionFacts, Actions, type_by_name
from retrank.contract.attributes import AttributeArrays
from retrank.contract.bundle import VerifiedBundle
from retrank.contract.context import ContextRows, ContextSpec
from retrank.contract.encode import CONTEXT_ROWS, encode_one
from retrank.contract.errors import ConfigError, FormatError
from retrank.contract.features import FeatureSpec, read_features
from retrank.contract.golden import check_golden, read_golden
from retrank.contract.manifest import Manifest
from retrank.contract.mapped import mapped
from retrank.contract.rest import Rest, no_rest
from retrank.contract.sequences import Sequences
from retrank.contract.vocab import Vocab
from retrank.policy.covisit import Successors
from retrank.serving.attributes import ItemAttributes
from retrank.serving.onnx import open_session
from retrank.serving.ranker import SecondStage, open_ranker


class QueryEncoder:
    """The sequence model: histories in, query vectors out."""

    def __init__(self, path: Path, spec: FeatureSpec) -> None:
        """Load the graph."""
        self._session = open_session(path)
        self._spec = spec

    def run(self, histories: Sequences) -> NDArray[np.float32]:
        """Return `[B, D]` float32 queries for B histories."""
        (queries,) = self._session.run([self._spec.output_name], dict(self._spec.encode(histories)))
        found: NDArray[np.float32] = queries
        return found

    def encode(
        self,
        history: NDArray[np.integer],
        ages: NDArray[np.int64],
        actions: NDArray[np.int64],
        context: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Return the `[D]` float32 query after H >= 1 events, oldest first.

        Args:
            history: `[H]` item rows.
            ages: `[H]` whole seconds since each event.
            actions: `[H]` action rows, 0 = unknown.
            context: `[F]` rows of what is known of the moment, 0 = unknown.
        """
        inputs = encode_one(history, ages, actions, context, self._spec.inputs, self._spec.max_length)
        query: NDArray[np.float32] = self._session.run([self._spec.output_name], dict(inputs))[0][0]
        return query


class ItemIndex:
    """The FAISS index over item vectors; its ids are item rows."""

    def __init__(self, path: Path, *, num_items: int, width: int) -> None:
        """Open the index, mapped into memory.

        Raises:
            FormatError: its vectors have another width or another number.
        """
        self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
        if self._index.d != width:
            raise FormatError(f"{path}: vectors of width {self._index.d}, the manifest says {width}; export it again")
        if self._index.ntotal != num_items:
            raise FormatError(
                f"{path}: {self._index.ntotal} vectors, the manifest says {num_items} items; export it again"
            )

    def search(self, query: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return up to `count` item rows with the largest inner products, best first."""
        _, rows = self._index.search(query[None], max(1, min(count, self._index.ntotal)))
        found: NDArray[np.int64] = rows[0][rows[0] > 0]
        return found


@dataclass(frozen=True)
class Runtime:
    """Everything a request needs, read-only.

    Attributes:
        bundle: where it came from.
        items, users: ids and rows.
        attributes: what a person would recognise an item by.
        actions: names of the actions, their rows as in `histories.actions`, and what they are live.
        fields: what the sequence model reads of the moment of a request.
        unlearned: `[N + 1]` bool, items whose vectors nothing was learned of; None where there are none.
        user_fields: `[U + 1, F]` int32 rows of those fields that users tell, 0 = unknown; None where they tell none.
        histories: events of the known users.
        encoder, index: the sequence model and its item index.
        item_vectors: `[N + 1, D]` float32, row 0 is zero.
        popular_items: `[N]` int32 item rows, most popular first.
        popularity: `[N + 1]` float32 share of the most popular item's score, 0..1.
        successors: co-visitation lists.
        second: the ranker; None when retrieval scores rank.
    """

    bundle: VerifiedBundle
    items: Vocab
    users: Vocab
    attributes: ItemAttributes
    actions: Actions
    fields: ContextRows
    histories: Sequences
    encoder: QueryEncoder
    index: ItemIndex
    item_vectors: NDArray[np.float32]
    popular_items: NDArray[np.int32]
    popularity: NDArray[np.float32]
    successors: Successors
    second: SecondStage | None = None
    user_fields: NDArray[np.int32] | None = None
    unlearned: NDArray[np.bool_] | None = None

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest


def open_runtime(bundle: VerifiedBundle, rest: Rest = no_rest) -> Runtime:
    """Open a bundle whose hashes were checked, and prove it with its golden requests.

    Args:
        bundle: the bundle.
        rest: called between pieces of work.

    Raises:
        FormatError: a file does not fit the manifest, or histories are encoded in a way this version does not know.
        BundleError: a golden request gets another answer.
    """
    faiss.omp_set_num_threads(1)
    spec, manifest = read_features(bundle), bundle.manifest
    num_items, num_users, width = manifest.data.num_items, manifest.data.num_users, manifest.encoder.width
    successors = (num_items + 1, None)
    times = mapped(bundle.path(layout.HISTORY_TIMES), np.int64)
    actions = mapped(bundle.path(layout.HISTORY_ACTIONS), np.int16)
    items, fields = Vocab.open(bundle.directory, layout.ITEM_VOCAB), _fields(spec)
    encoder = QueryEncoder(bundle.path(layout.QUERY_ENCODER), spec)
    rest()
    index = ItemIndex(bundle.path(layout.INDEX), num_items=num_items, width=width)
    rest()
    runtime = Runtime(
        bundle=bundle,
        items=items,
        users=Vocab.open(bundle.directory, layout.USER_VOCAB),
        attributes=ItemAttributes(items, AttributeArrays.open(bundle.directory, manifest.item_columns, num_items)),
        actions=_actions(manifest, spec),
        fields=fields,
        user_fields=_user_fields(bundle, fields),
        unlearned=_unlearned(bundle, num_items),
        histories=Sequences(
            mapped(bundle.path(layout.HISTORY_ITEMS), np.int32),
            mapped(bundle.path(layout.HISTORY_OFFSETS), np.int64, (num_users + 1,)),
            times if len(times) else None,
            actions=actions if len(actions) else None,
        ),
        encoder=encoder,
        index=index,
        item_vectors=mapped(bundle.path(layout.ITEM_VECTORS), np.float32, (num_items + 1, width)),
        popular_items=mapped(bundle.path(layout.POPULAR_ITEMS), np.int32, (num_items,)),
        popularity=mapped(bundle.path(layout.POPULARITY), np.float32, (num_items + 1,)),
        successors=Successors(
            mapped(bundle.path(layout.COVISIT_ITEMS), np.int32, successors),
            mapped(bundle.path(layout.COVISIT_WEIGHTS), np.float32, successors),
        ),
    )
    _check_sizes(runtime)
    rest()
    runtime = replace(runtime, second=open_ranker(bundle, runtime.item_vectors, rest))
    check_golden(
        read_golden(bundle.path(layout.GOLDEN)),
        encode=runtime.encoder.run,
        item_vectors=runtime.item_vectors,
        items=runtime.items,
        rest=rest,
    )
    return runtime


def _actions(manifest: Manifest, spec: FeatureSpec) -> Actions:
    """Return what the actions are live; a bundle from before that was sealed goes by their names.

    Raises:
        FormatError: the manifest tells of other actions than the history encoding.
    """
    facts = manifest.actions or [
        ActionFacts(name=name, event_type=type_by_name(name), num_events=0) for name in spec.actions
    ]
    if [one.name for one in facts] != list(spec.actions):
        raise FormatError(
            f"the manifest tells of actions {[one.name for one in facts]}, {layout.FEATURES} of {list(spec.actions)}; "
            "export the bundle again"
        )
    return Actions(facts)


def _fields(spec: FeatureSpec) -> ContextRows:
    """Return what the model reads of the moment; nothing for a bundle from before it could.

    Raises:
        FormatError: inputs and fields disagree, or the time zone is unknown here.
    """
    told = spec.context or ContextSpec()
    if (CONTEXT_ROWS in spec.inputs) != bool(told.fields):
        raise FormatError(
            f"{layout.FEATURES}: inputs {list(spec.inputs)} and fields {list(told.sizes)} disagree; export again"
        )
    try:
        return ContextRows(told)
    except ConfigError as error:
        raise FormatError(f"{layout.FEATURES}: {error}") from error


def _user_fields(bundle: VerifiedBundle, fields: ContextRows) -> NDArray[np.int32] | None:
    """Return what users tell of the fields, where they tell any.

    Raises:
        FormatError: it was not sealed, or has another shape.
    """
    if not fields.of_users.any():
        return None
    if layout.USER_FIELDS not in bundle.manifest.files:
        raise FormatError(f"{layout.FEATURES} has fields of users and there is no {layout.USER_FIELDS}; export again")
    shape = (bundle.manifest.data.num_users + 1, len(fields.of_users))
    return mapped(bundle.path(layout.USER_FIELDS), np.int32, shape)


def _unlearned(bundle: VerifiedBundle, num_items: int) -> NDArray[np.bool_] | None:
    """Return which items nothing was learned of, where there are any and the bundle knows."""
    if layout.UNLEARNED_ITEMS not in bundle.manifest.files:
        return None
    return mapped(bundle.path(layout.UNLEARNED_ITEMS), np.bool_, (num_items + 1,))


def _check_sizes(runtime: Runtime) -> None:
    """Refuse what mapping could not: sizes that only the content of several files tells."""
    data, lists = runtime.manifest.data, runtime.successors
    expected = {
        layout.ITEM_VOCAB.offsets: (len(runtime.items), data.num_items),
        layout.USER_VOCAB.offsets: (len(runtime.users), data.num_users),
        layout.COVISIT_WEIGHTS: (lists.weights.shape[1], lists.items.shape[1]),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            path = runtime.bundle.path(name)
            raise FormatError(f"{path}: {found} entries, expected {wanted}; export the bundle again")
