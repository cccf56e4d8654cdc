"""`experiment=auto`: what the rule chooses for which data, what was given wins, the test window is not seen."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_world import Configure

from retrank.config import compose, instantiate, resolve
from retrank.contract.errors import ConfigError
from retrank.contract.sequences import Sequences
from retrank.data.facts import Facts
from retrank.data.store import EventStore
from retrank.training import fit
from retrank.training.auto import RULES
from retrank.training.settle import FROM_DATA, settle

DAY_US = 86_400_000_000
SHOP = Facts(
    num_events=300_000, num_users=4000, num_items=3000, long_history=110, repeat_share=0.3, basket_share=0.9,
    half_life_days=10.0,
)  # fmt: skip
FILMS = replace(SHOP, num_events=20_000_000, num_items=30_000, repeat_share=0.0, basket_share=None, half_life_days=None)


def auto(*overrides: str) -> dict[str, Any]:
    """Return the configuration of `experiment=auto`, resolved and not yet settled."""
    return resolve(compose("train", ["experiment=auto", "store=none", "run_dir=none", *overrides]))


def shop(num_users: int = 150, num_days: int = 40, seed: int = 0) -> Sequences:
    """Users that take two items a day now and then; every user stays to the last day."""
    random = np.random.default_rng(seed)
    days = [np.sort(np.r_[random.integers(0, num_days, 10), num_days - 1, num_days - 4]) for _ in range(num_users)]
    items = [random.integers(1, 60, 2 * len(of)).tolist() for of in days]
    return Sequences.from_lists(items, times=[(np.repeat(of, 2) * DAY_US).tolist() for of in days])


def without_times(sequences: Sequences) -> Sequences:
    return Sequences(sequences.item_rows, sequences.offsets)


def test_nothing_is_left_to_choose_and_every_choice_has_its_reason() -> None:
    settled = settle(auto(), shop())
    assert FROM_DATA not in yaml.safe_dump({key: value for key, value in settled.items() if key != "auto"})
    assert set(settled["auto"]["reasons"]) == {"split", *RULES}
    assert all(settled["auto"]["reasons"].values())


def test_baskets_are_answered_with_later_baskets_and_a_model_that_reads_no_order() -> None:
    settled = settle(auto(), shop())
    assert settled["model"]["_target_"].endswith("PooledHistory")
    assert "num_blocks" not in settled["model"]
    assert settled["batches"]["targets"]["_target_"].endswith("LaterBaskets")
    assert settled["split"]["_target_"].endswith("GlobalTemporal")


def test_baskets_are_read_as_by_the_pooled_model_asked_for_by_name() -> None:
    """What was measured with `model=pooled` is what the rule gives."""
    chosen, named = settle(auto(), shop()), settle(auto("model=pooled"), shop())
    del chosen["auto"], named["auto"]
    assert chosen == named


@pytest.mark.parametrize("model", ["sasrec", "hstu", "two_tower", "model.width=32", "loss=sampled_softmax"])
def test_runs_with_another_model_answer_the_same_question_as_without(model: str) -> None:
    given = model if "=" in model else f"model={model}"
    for histories in (shop(), shop(num_users=50), without_times(shop())):
        assert settle(auto(given), histories)["split"] == settle(auto(), histories)["split"]


@pytest.mark.parametrize(("basket_share", "model"), [(0.49, "HSTU"), (0.5, "PooledHistory"), (None, "SASRec")])
def test_the_model_follows_from_how_many_events_share_their_moment(basket_share: float | None, model: str) -> None:
    facts = replace(SHOP, basket_share=basket_share)
    assert RULES["model"](facts, auto()).value["_target_"].endswith(model)


def test_data_without_times_is_split_by_order_and_read_without_times() -> None:
    settled = settle(auto(), without_times(shop()))
    assert settled["model"]["_target_"].endswith("SASRec")
    assert settled["batches"]["targets"]["_target_"].endswith("NextEvent")
    assert settled["split"]["_target_"].endswith("LeaveLastOut")


def test_a_validation_window_with_few_users_gives_way_to_one_event_of_each_user() -> None:
    settled = settle(auto(), shop(num_users=50))
    assert settled["split"]["_target_"].endswith("LeaveLastOut")
    assert "no ranker can follow" in settled["auto"]["reasons"]["split"]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("model.width=32", ("model", "width"), 32),
        ("model=sasrec", ("model", "_target_"), "retrank.models.sasrec.SASRec"),
        ("loss=bpr", ("loss", "_target_"), "retrank.losses.bpr.BPR"),
        ("warm_start=null", ("warm_start",), None),
        ("split=leave_last_out", ("split", "_target_"), "retrank.data.splits.LeaveLastOut"),
        ("batches.targets._target_=retrank.data.targets.NextEvent", ("batches", "targets", "_target_"), None),
        ("+batches.targets.half_life_days=7", ("batches", "targets", "half_life_days"), 7),
        ("optim.learning_rate=0.1", ("optim", "learning_rate"), 0.1),
        ("trainer.max_epochs=3", ("trainer", "max_epochs"), 3),
    ],
)
def test_what_is_given_wins(override: str, path: tuple[str, ...], value: object) -> None:
    settled: Any = settle(auto(override), shop())
    node = settled
    for key in path:
        node = node[key]
    assert node == (value if value is not None or path == ("warm_start",) else override.partition("=")[2])
    assert ".".join(path) not in settled["auto"]["reasons"]


def test_later_rules_follow_what_is_given() -> None:
    settled = settle(auto("model.similarity=cosine", "warm_start=null", "model.max_length=7"), shop())
    assert settled["loss"]["temperature"] == 0.05
    assert settled["model"]["width"] == 64
    assert settled["batches"]["max_length"] == 7


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        (("model=two_tower",), {"num_blocks"}),
        (("model=pooled",), {"num_blocks"}),
        (("model=mixture_of_logits", "loss=rescored"), {"num_blocks", "similarity", "num_actions"}),
        (("model=sasrec",), set()),
        (("model=hstu",), set()),
    ],
)
def test_settings_that_the_given_model_lacks_are_left_out_with_the_reason(
    given: tuple[str, ...], absent: set[str]
) -> None:
    settled = settle(auto(*given), shop())
    chosen = {name for name in RULES if name.startswith("model.")}
    assert {name.removeprefix("model.") for name in chosen} - set(settled["model"]) == absent
    kind = settled["model"]["_target_"].rpartition(".")[2]
    for name in absent:
        assert settled["auto"]["reasons"][f"model.{name}"] == f"left out, {kind} has no such setting"
    assert instantiate(settled["model"])(num_items=60).max_length == settled["model"]["max_length"]
    assert instantiate(settled["loss"]).temperature == settled["loss"]["temperature"]


@pytest.mark.parametrize(
    ("word", "named"),
    [("NextEvent", "NextEvent"), ("LaterBaskets", "LaterBaskets"), ("next", "NextEvent"), ("null", "NextEvent")],
)
def test_targets_given_by_a_word_are_refused_with_the_override_that_works(word: str, named: str) -> None:
    override = f"batches.targets._target_=retrank.data.targets.{named}"
    with pytest.raises(ConfigError, match=rf"^batches\.targets is .*; expected a class: {re.escape(override)}$"):
        settle(auto(f"batches.targets={word}"), shop())
    assert settle(auto(override), shop())["batches"]["targets"]["_target_"] == override.partition("=")[2]


def test_a_model_that_does_not_exist_is_refused_by_its_path() -> None:
    with pytest.raises(ConfigError, match=r"retrank\.models\.sasrec\.SASRek: no such class"):
        settle(auto("model._target_=retrank.models.sasrec.SASRek"), shop())


def test_a_configuration_that_leaves_nothing_open_comes_back_as_it_is() -> None:
    config = resolve(compose("train", ["experiment=smoke", "store=none", "run_dir=none"]))
    assert settle(config, shop()) == config


def test_a_setting_without_a_rule_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.patience: from_data, but no rule"):
        settle(auto(f"trainer.patience={FROM_DATA}"), shop())


def test_the_test_window_changes_no_choice() -> None:
    """Every item and time after the test cut is replaced, without changing who has how many events."""
    sequences = shop()
    first = settle(auto(), sequences)
    parted = instantiate(first["split"])(sequences)
    cut = parted.test.inputs.asked_at.min()
    times = sequences.times
    assert times is not None
    items = np.where(times >= cut, 1, sequences.item_rows).astype(np.int32)
    moved = np.where(times >= cut, cut, times)
    second = settle(auto(), Sequences(items, sequences.offsets, moved))
    assert first["auto"] == second["auto"]


def acting(sequences: Sequences, rare: float, num_actions: int = 3) -> Sequences:
    """The same events, of which a share has one of the rare actions 2..num_actions and the others have action 1."""
    random = np.random.default_rng(0)
    size = len(sequences.item_rows)
    others = random.integers(2, num_actions + 1, size)
    return replace(sequences, actions=np.where(random.random(size) < rare, others, 1).astype(np.int16))


@pytest.mark.parametrize(("rare", "expected"), [(0.2, 3), (0.004, 0)])
def test_actions_are_read_when_two_are_usual(rare: float, expected: int) -> None:
    settled = settle(auto(), acting(shop(), rare))
    assert settled["model"]["num_actions"] == expected
    assert instantiate(settled["model"])(num_items=60).num_actions == expected


def test_without_actions_none_are_read() -> None:
    assert settle(auto(), shop())["model"]["num_actions"] == 0


@pytest.mark.parametrize("model", ["sasrec", "hstu", "pooled", "two_tower"])
def test_any_recipe_may_ask_for_the_actions_of_its_data(model: str) -> None:
    asking = ("name=any", "store=none", "run_dir=none", f"model={model}", f"model.num_actions={FROM_DATA}")
    settled = settle(resolve(compose("train", [*asking])), acting(shop(), 0.2))
    assert settled["model"]["num_actions"] == 3
    made = instantiate(settled["model"])(num_items=60)
    assert made.inputs[-1] == "actions"


def test_many_events_and_items_change_depth_loss_and_start() -> None:
    known = auto()
    assert RULES["loss"](SHOP, known).value["_target_"].endswith("FullSoftmax")
    assert RULES["loss"](FILMS, known).value["_target_"].endswith("SampledSoftmax")
    assert RULES["warm_start"](SHOP, known).value is not None
    assert RULES["warm_start"](FILMS, known).value is None
    assert RULES["model.num_blocks"](SHOP, known).value < RULES["model.num_blocks"](FILMS, known).value


@settings(max_examples=25, deadline=None)
@given(
    num_events=st.integers(1, 10**10),
    num_users=st.integers(1, 10**8),
    num_items=st.integers(1, 10**8),
    long_history=st.integers(1, 10**5),
    has_times=st.booleans(),
)
def test_whatever_the_data_the_choices_are_accepted_by_their_classes(
    num_events: int, num_users: int, num_items: int, long_history: int, *, has_times: bool
) -> None:
    num_users, num_items = min(num_users, num_events), min(num_items, num_events)
    times = (0.3, 30.0) if has_times else (None, None)
    facts = Facts(num_events, num_users, num_items, long_history, 0.1, *times)
    settled: dict[str, Any] = auto()
    for name, rule in RULES.items():
        *path, key = name.split(".")
        node = settled
        for part in path:
            node = node[part]
        value = rule(facts, settled).value
        beside = {k: v for k, v in node[key].items() if k != "_target_"} if isinstance(node[key], dict) else {}
        node[key] = value | beside if isinstance(value, dict) else value
    for group in ("loss", "optim", "trainer", "warm_start"):
        instantiate(settled[group])
    instantiate(settled["batches"]["targets"])
    model = instantiate(settled["model"])(num_items=10)
    assert settled["warm_start"] is None or model.width < min(num_users, num_items)
    assert settled["batches"]["batch_size"] >= 1


def test_a_run_keeps_its_choices_and_can_be_evaluated_and_resumed(configure: Configure, ring_store: Path) -> None:
    config = auto(f"store={ring_store}", "trainer.max_epochs=2", "trainer.progress=false", "trainer.threads=1")
    config |= {"run_dir": configure("auto")["run_dir"], "baselines": False}
    run_dir = fit.run(config)
    kept = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert kept == settle(config, EventStore.open(ring_store).sequences)
    assert fit.run(config | {"ckpt": str(run_dir)}) == run_dir
