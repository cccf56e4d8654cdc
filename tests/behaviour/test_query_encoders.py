"""What every query encoder promises, whichever model it is."""

import io
from collections.abc import Callable
from functools import partial
from typing import Literal

import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from retrank.data.item_content import ItemContent
from retrank.models.hstu import HSTU
from retrank.models.mixture_of_logits import MixtureOfLogits, WithMixture
from retrank.models.pooling import PooledHistory
from retrank.models.sasrec import SASRec
from retrank.models.sequence import SequenceModel
from retrank.models.two_tower import TwoTower

NUM_ITEMS, MAX_LENGTH, NUM_ACTIONS = 30, 12, 4
FIELDS = {"region": 3, "weekday": 7}
Model = SASRec | HSTU | PooledHistory | TwoTower | WithMixture
Make = Callable[[], Model]


def _small(kind: type[Model], **settings: object) -> Make:
    def make() -> Model:
        torch.manual_seed(0)
        common = {"max_length": MAX_LENGTH, "width": 16, "num_blocks": 2, "num_heads": 2, "dropout": 0.1}
        return kind(NUM_ITEMS, **(common | settings))  # type: ignore[arg-type]  # settings of several types

    return make


def _towers(
    history: Callable[..., SequenceModel],
    *,
    content: bool = True,
    num_actions: int = 0,
    context: dict[str, int] | None = None,
) -> Make:
    def make() -> Model:
        torch.manual_seed(0)
        items = pa.table({"kind": [str(row % 3) for row in range(NUM_ITEMS)], "price": [None, *range(1, NUM_ITEMS)]})
        chosen = ItemContent(categories=["kind"], numbers=["price"], num_bins=4)
        arrays = chosen.fit(items).encode_catalogue(items) if content else None
        return TwoTower(
            NUM_ITEMS,
            history=history,
            content=arrays,
            max_length=MAX_LENGTH,
            width=16,
            dropout=0.1,
            id_dropout=0.1,
            num_actions=num_actions,
            context=context,
        )

    return make


def _pooled(pooling: Literal["attention", "mean"], num_actions: int = 0, context: dict[str, int] | None = None) -> Make:
    def make() -> Model:
        torch.manual_seed(0)
        return PooledHistory(
            NUM_ITEMS,
            max_length=MAX_LENGTH,
            width=16,
            dropout=0.1,
            pooling=pooling,
            num_actions=num_actions,
            context=context,
        )

    return make


def _with_mixture(context: dict[str, int] | None = None) -> Model:
    torch.manual_seed(0)
    return WithMixture(
        NUM_ITEMS,
        encoder=SASRec,
        head=MixtureOfLogits,
        max_length=MAX_LENGTH,
        width=16,
        dropout=0.1,
        context=context,
    )


FORGETS_ORDER = "pooled, mean"
ENCODERS: dict[str, Make] = {
    "gated cosine": _small(SASRec, flavour="gated", similarity="cosine"),
    "gated dot": _small(SASRec, flavour="gated", similarity="dot"),
    "classic cosine": _small(SASRec, flavour="classic", similarity="cosine"),
    "classic dot": _small(SASRec, flavour="classic", similarity="dot"),
    "one block": _small(SASRec, num_blocks=1),
    "gated, eight blocks": _small(SASRec, num_blocks=8),
    "hstu": _small(HSTU),
    "hstu without times": _small(HSTU, time_bias=False),
    "hstu dot, one block": _small(HSTU, similarity="dot", num_blocks=1),
    "hstu, eight blocks": _small(HSTU, num_blocks=8),
    "sasrec with actions": _small(SASRec, num_actions=NUM_ACTIONS),
    "hstu with actions": _small(HSTU, num_actions=NUM_ACTIONS),
    "hstu with actions, without times": _small(HSTU, num_actions=NUM_ACTIONS, time_bias=False),
    "pooled with actions": _pooled("attention", num_actions=NUM_ACTIONS),
    "pooled": _pooled("attention"),
    FORGETS_ORDER: _pooled("mean"),
    "two towers, pooled": _towers(PooledHistory),
    "two towers, sasrec": _towers(partial(SASRec, num_blocks=1)),
    "two towers, hstu": _towers(partial(HSTU, num_blocks=1)),
    "two towers, ids only": _towers(PooledHistory, content=False),
    "with a mixture": _with_mixture,
    "two towers with actions": _towers(HSTU, num_actions=NUM_ACTIONS),
    "sasrec in context": _small(SASRec, context=FIELDS),
    "classic in context": _small(SASRec, context=FIELDS, flavour="classic", similarity="dot"),
    "hstu in context": _small(HSTU, context=FIELDS, num_actions=NUM_ACTIONS),
    "pooled in context": _pooled("attention", context=FIELDS),
    "two towers, pooled, in context": _towers(PooledHistory, context=FIELDS),
    "two towers, sasrec, in context": _towers(partial(SASRec, num_blocks=1), context=FIELDS),
    "with a mixture in context": lambda: _with_mixture(FIELDS),
}
READ_ACTIONS = {name: make for name, make in ENCODERS.items() if "with actions" in name}
every_encoder_of_actions = pytest.mark.parametrize("make", READ_ACTIONS.values(), ids=READ_ACTIONS.keys())
READ_CONTEXT = {name: make for name, make in ENCODERS.items() if "in context" in name}
every_encoder_in_context = pytest.mark.parametrize("make", READ_CONTEXT.values(), ids=READ_CONTEXT.keys())
every_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS.keys())


def _histories(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(1, NUM_ITEMS + 1, (batch, length), generator=torch.Generator().manual_seed(seed))


def _inputs(
    model: Model,
    item_rows: torch.Tensor,
    actions: torch.Tensor | None = None,
    context: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Return what the model reads; events become older faster and faster, padding has age 0.

    The action of an event and the context after it are functions of its item, which is all that most promises need.
    """
    steps = torch.arange(item_rows.shape[1] - 1, -1, -1)
    values = {
        "item_rows": item_rows,
        "ages": 50 * steps**3 * (item_rows != 0),
        "actions": item_rows % (NUM_ACTIONS + 1) if actions is None else actions,
        "context": torch.stack([item_rows % 4, item_rows % 8], dim=-1) if context is None else context,
    }
    return {name: values[name] for name in model.inputs}


def _query(model: Model, item_rows: torch.Tensor, actions: torch.Tensor | None = None) -> torch.Tensor:
    query: torch.Tensor = model(**_inputs(model, item_rows, actions))
    return query


def _queries(model: Model, item_rows: torch.Tensor, actions: torch.Tensor | None = None) -> torch.Tensor:
    return model.encode_all(**_inputs(model, item_rows, actions))


@every_encoder
def test_the_newest_query_is_the_last_of_all_queries(make: Make) -> None:
    model, histories = make().eval(), _histories(5, 9)
    histories[0, :4] = histories[1, :8] = 0
    torch.testing.assert_close(_query(model, histories), _queries(model, histories)[:, -1], atol=1e-5, rtol=1e-4)


@every_encoder
def test_the_width_of_the_padding_does_not_matter(make: Make) -> None:
    model, histories = make().eval(), _histories(4, 5)
    for padding in (1, 3, MAX_LENGTH - 5):
        padded = F.pad(histories, (padding, 0))
        torch.testing.assert_close(_query(model, padded), _query(model, histories), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(
            _queries(model, padded)[:, padding:], _queries(model, histories), atol=1e-5, rtol=1e-4
        )


@every_encoder
def test_a_query_never_sees_the_future(make: Make) -> None:
    model, histories = make().eval(), _histories(3, 8)
    changed = histories.clone()
    changed[:, 5:] = _histories(3, 3, seed=9)
    torch.testing.assert_close(_queries(model, histories)[:, :5], _queries(model, changed)[:, :5])


@every_encoder_of_actions
def test_what_was_done_changes_the_answer(make: Make) -> None:
    model, histories = make().eval(), _histories(3, 5)
    viewed = torch.ones_like(histories)
    for place in (1, 4):
        other = viewed.clone()
        other[:, place] = 2
        assert not torch.allclose(_query(model, histories, viewed), _query(model, histories, other), atol=1e-5)


@every_encoder_of_actions
def test_the_action_of_padding_does_not_matter(make: Make) -> None:
    model, histories = make().eval(), _histories(3, 6)
    histories[:, :3] = 0
    actions = torch.where(histories > 0, 1, 0)
    wrong = torch.where(histories > 0, 1, 3)
    torch.testing.assert_close(_queries(model, histories, actions), _queries(model, histories, wrong))
    nothing = torch.zeros_like(histories)
    torch.testing.assert_close(_query(model, nothing, actions), _query(model, nothing, nothing))


@every_encoder_of_actions
def test_a_query_never_sees_what_is_done_later(make: Make) -> None:
    """The action of the target stands one place after the position that is asked for it."""
    model, histories = make().eval(), _histories(3, 8)
    actions = torch.ones_like(histories)
    later = actions.clone()
    later[:, 5:] = torch.tensor([2, 3, 4])
    torch.testing.assert_close(_queries(model, histories, actions)[:, :5], _queries(model, histories, later)[:, :5])


def _spoken(model: Model) -> Model:
    """Give values of the context vectors of some size; they begin at nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("context.table"):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return model.eval()


def _asked(model: Model, item_rows: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    query: torch.Tensor = model(**_inputs(model, item_rows, context=context))
    return query


@every_encoder_in_context
def test_the_moment_changes_the_answer_by_every_field(make: Make) -> None:
    model, histories = _spoken(make()), _histories(3, 5)
    untold, region, weekday = (torch.tensor(rows).expand(3, 1, 2) for rows in ([0, 0], [2, 0], [0, 6]))
    answers = [_asked(model, histories, context) for context in (untold, region, weekday)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(answers[one], answers[other], atol=1e-3)


@every_encoder_in_context
def test_a_moment_of_which_nothing_is_told_changes_nothing(make: Make) -> None:
    model, histories = make().eval(), _histories(3, 5)
    untold, told = (torch.tensor(rows).expand(3, 1, 2) for rows in ([0, 0], [2, 6]))
    before = _asked(model, histories, untold)
    torch.testing.assert_close(_asked(model, histories, told), before, atol=0, rtol=0)  # nothing was learned yet
    torch.testing.assert_close(_asked(_spoken(model), histories, untold), before, atol=0, rtol=0)


@every_encoder_in_context
def test_only_the_moment_that_is_asked_about_counts(make: Make) -> None:
    """A request tells its own moment alone; in training every place is asked about, each in its own."""
    model, histories = _spoken(make()), _histories(3, 6)
    whole = _inputs(model, histories)
    last = {**whole, "context": whole["context"][:, -1:]}
    torch.testing.assert_close(model(**whole), model(**last), atol=0, rtol=0)
    other = {**whole, "context": torch.cat([whole["context"][:, :3], torch.ones(3, 3, 2, dtype=torch.int64)], dim=1)}
    torch.testing.assert_close(model.encode_all(**whole)[:, :3], model.encode_all(**other)[:, :3])


@every_encoder
def test_other_histories_in_the_batch_do_not_matter(make: Make) -> None:
    model, histories = make().eval(), _histories(4, 6)
    alone = torch.cat([_query(model, row[None]) for row in histories])
    torch.testing.assert_close(_query(model, histories), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {FORGETS_ORDER}))
def test_order_of_events_matters(name: str) -> None:
    make = ENCODERS[name]
    model, histories = make().eval(), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():  # weights near zero at the start would hide it
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1)
    assert not torch.allclose(_query(model, histories), _query(model, histories[:, [2, 0, 1, 3]]), atol=1e-4)


@every_encoder
def test_padding_alone_gives_finite_queries(make: Make) -> None:
    assert torch.isfinite(_query(make().eval(), torch.zeros(2, 3, dtype=torch.int64))).all()


@every_encoder
def test_saved_and_loaded_weights_give_equal_queries(make: Make) -> None:
    model, fresh, stream = make().eval(), make().eval(), io.BytesIO()
    with torch.no_grad():
        model.item_vectors()
        next(iter(model.parameters())).add_(0.1)
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(_query(fresh, _histories(2, 4)), _query(model, _histories(2, 4)))


@every_encoder
def test_vectors_of_named_rows_are_those_of_the_catalogue(make: Make) -> None:
    model, rows = make().eval(), torch.tensor([[3, 0], [7, 3]])
    everything = model.item_vectors()
    assert not everything[0].any()
    torch.testing.assert_close(model.item_vectors(rows), everything[rows])


@every_encoder
def test_it_can_learn_one_batch_by_heart(make: Make) -> None:
    model = make().train()
    histories = torch.arange(1, 25).reshape(4, 6)
    inputs, targets = histories[:, :-1], histories[:, 1:].flatten()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    temperature = 0.1 if model.similarity == "cosine" else 1.0
    for _ in range(150):
        logits = _queries(model, inputs).flatten(0, 1) @ model.item_vectors()[1:].T / temperature
        loss = F.cross_entropy(logits, targets - 1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
    predicted = (_queries(model.eval(), inputs).flatten(0, 1) @ model.item_vectors()[1:].T).argmax(-1) + 1
    assert (predicted == targets).float().mean().item() == 1.0
