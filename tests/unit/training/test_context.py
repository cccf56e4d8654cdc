"""Training on the moment of a request: a world where it decides, a run that reads it, its bundle, and its answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ring_world import SMALL

from retrank.cli import main
from retrank.config import compose, resolve
from retrank.contract.api import RecommendRequest, Session
from retrank.contract.bundle import verify
from retrank.contract.cases import Cases
from retrank.contract.encode import CONTEXT_ROWS
from retrank.contract.errors import BundleError, ConfigError, DataError
from retrank.contract.features import read_features
from retrank.data.ingest import ingest
from retrank.data.readers.columns import Columns
from retrank.data.readers.delimited import Delimited
from retrank.data.splits import split_store
from retrank.export.run_folder import read_run
from retrank.serving.bundles.opening import begin, open_service_replica
from retrank.serving.recommender import Recommender
from retrank.serving.settings import parse_settings
from retrank.training import fit
from retrank.training.checkpoint import BEST, CHECKPOINTS, IDENTITY_KEY, load_model
from retrank.training.checkpoint import read as read_checkpoint
from retrank.training.context_side import open_store
from retrank.training.evaluator import evaluate
from retrank.training.peers import open_peer
from retrank.training.scorer import ModelScorer

NUM_ITEMS, NUM_USERS, HALF = 20, 150, 10
TOLD = ("context.fields=[place]", "context.min_events=5")
LEARNED = (
    "trainer.max_epochs=20", "optim.learning_rate=0.02", "model.dropout=0", "trainer.ema_decay=0.5",
    "trainer.patience=20",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People on a ring of items: at home they go to the next one, at work to the one across it.

    The place says nothing of which item is wanted unless the history is read with it; it is drawn anew for every step.
    """
    random, lines = np.random.default_rng(0), ["user,item,time,place"]
    for user in range(NUM_USERS):
        item = int(random.integers(NUM_ITEMS))
        for step in range(8):
            place = str(random.choice(["home", "work"]))
            item = (item + (1 if place == "home" else HALF)) % NUM_ITEMS
            lines.append(f"u{user},i{item},{1_000 * step + user},{place}")
    folder = tmp_path_factory.mktemp("placed")
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    columns = Columns("user", "item", time="time", context={"place": "place"})
    ingest(Delimited(str(folder / "events.csv"), columns, "placed_ring"), folder / "store")
    return folder / "store"


def _configured(store: Path, root: Path, *overrides: str) -> list[str]:
    return [
        *SMALL,
        f"store={store}",
        f"run_dir={root / 'run'}",
        f"paths.root={root}",
        "batches.batch_size=16",
        *overrides,
    ]


def _learn(store: Path, root: Path, *overrides: str) -> Path:
    return fit.learn(resolve(compose("train", _configured(store, root, *overrides))), say=lambda _: None)


@pytest.fixture(scope="module")
def blind(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that does not read where people are."""
    return _learn(store, tmp_path_factory.mktemp("blind"), *LEARNED)


@pytest.fixture(scope="module")
def told(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same recipe that does."""
    return _learn(store, tmp_path_factory.mktemp("told"), *LEARNED, *TOLD)


def _test_cases(store: Path, config: dict[str, Any]) -> tuple[Cases, Any]:
    split = split_store(config["split"], open_store(store, config))
    return split.test, split.train


def _ndcg(run: Path, store: Path, asked_in: NDArray[np.int32] | None = None) -> float:
    model, config = load_model(run)
    cases, train = _test_cases(store, config)
    if asked_in is not None:
        cases = replace(cases, inputs=replace(cases.inputs, asked_in=asked_in))
    return evaluate(ModelScorer(model), cases, train).metrics["ndcg@10"]  # type: ignore[arg-type]  # any that was trained


def _asked_in(run: Path, store: Path) -> NDArray[np.int32]:
    asked_in = _test_cases(store, load_model(run)[1])[0].inputs.asked_in
    assert asked_in is not None
    return asked_in


def test_a_model_that_is_told_the_place_knows_where_people_go_and_another_must_guess(
    store: Path, blind: Path, told: Path
) -> None:
    """Who does not know it has two items to choose from, which gives an NDCG of about 0.8."""
    assert _ndcg(told, store) > 0.95
    assert _ndcg(blind, store) < 0.9


def test_with_the_places_of_other_requests_the_gain_is_gone(store: Path, blind: Path, told: Path) -> None:
    shuffled = np.random.default_rng(1).permutation(_asked_in(told, store))
    assert _ndcg(told, store, shuffled) < _ndcg(blind, store) + 0.02


def test_a_request_that_does_not_tell_its_place_is_answered_as_if_nobody_had_learned_of_places(
    store: Path, blind: Path, told: Path
) -> None:
    assert _ndcg(told, store, np.zeros_like(_asked_in(told, store))) > _ndcg(blind, store) - 0.1


@pytest.fixture(scope="module")
def bundles(store: Path, told: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a bundle of the run, sealed with the test metrics of an evaluation."""
    root = tmp_path_factory.mktemp("sealed")
    assert main(["evaluate", f"run={told}", "baselines=false", "progress=false"]) == 0
    quick = ("sealing.gates.parity_rows=50", f"out={root / 'bundles'}", f"paths.root={root}")
    assert main(["export", f"run={told}", *quick]) == 0
    return root / "bundles"


def test_a_run_goes_into_a_bundle_that_knows_the_fields_and_their_values(bundles: Path) -> None:
    bundle = verify(bundles)
    spec = read_features(bundle)
    assert spec.context is not None
    assert (spec.context.sizes, spec.inputs[-1]) == ({"place": 2}, CONTEXT_ROWS)
    assert bundle.manifest.encoder.parity_max_difference < 1e-4


def test_a_request_is_encoded_by_the_service_as_its_case_was_by_training(
    store: Path, told: Path, bundles: Path
) -> None:
    model, config = load_model(told)
    cases, _ = _test_cases(store, config)
    opened = open_store(store, config)
    expected = ModelScorer(model).queries(cases.inputs)  # type: ignore[arg-type]  # any module that was trained
    assert opened.context_spec is not None
    (place,), recommender = opened.context_spec.fields, Recommender.open(bundles)
    for at in range(0, len(cases), 10):
        assert cases.inputs.asked_in is not None
        told_place = place.values[int(cases.inputs.asked_in[at, 0]) - 1]
        context: dict[str, bool | int | float | str] = {"place": told_place, "stranger": True}
        recent = [opened.items.id(int(row)) for row in cases.inputs.of(at)]
        query = recommender.query(RecommendRequest(session=Session(recent=recent), context=context))
        assert query is not None
        np.testing.assert_allclose(query, expected[at], atol=1e-4)


def test_a_replica_of_a_service_starts_from_the_bundle(bundles: Path, tmp_path: Path) -> None:
    """Only a service samples the recall of the index, with histories that tell nothing of the moment."""
    settings = parse_settings({"bundle": bundles, "state": {"url": f"sqlite:{tmp_path / 'state.sqlite'}"}})
    begin(settings)
    replica = open_service_replica(settings, "one")
    assert replica.front.bundle.id == verify(bundles).bundle_id
    replica.close()


def test_the_place_of_a_request_decides_what_is_recommended(bundles: Path) -> None:
    recommender = Recommender.open(bundles)

    def best(**context: str) -> str:
        request = RecommendRequest(session=Session(recent=["i3", "i4", "i5"]), context=dict(context), k=1)
        return recommender.recommend(request).items[0].item_id

    assert (best(place="home"), best(place="work")) == ("i6", "i15")
    assert best(place="on the moon") == best() in ("i6", "i15")


def test_the_command_asks_with_a_context_and_says_what_of_it_changes_nothing(
    bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = {}
    for place in ("home", "work"):
        asked = ("recent=[i3,i4,i5]", f"+context.place={place}", "+context.mood=3", "k=1")
        assert main(["recommend", f"bundle={bundles}", *asked]) == 0
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "context.mood changes nothing: the model reads place"
        best[place] = said[2].split()[2]
    assert best == {"home": "i6", "work": "i15"}


def test_a_bundle_and_a_store_that_disagree_about_the_fields_are_not_sealed(store: Path, told: Path) -> None:
    from retrank.export.run_folder import read_catalogue  # noqa: PLC0415
    from retrank.export.sources import Fallbacks, check_fit  # noqa: PLC0415

    model, opened = read_run(told, None)
    without = replace(read_catalogue(opened), context=None)
    popularity = np.zeros(NUM_ITEMS + 1, np.float32)
    nothing = Fallbacks(popularity, np.zeros((NUM_ITEMS + 1, 1), np.int32), np.zeros((NUM_ITEMS + 1, 1), np.float32))
    with pytest.raises(BundleError, match="the fields of the context are none"):
        check_fit(model, without, nothing)


def test_runs_that_read_other_fields_do_not_take_part_in_an_ensemble(told: Path) -> None:
    saved = read_checkpoint(told / CHECKPOINTS / BEST)[IDENTITY_KEY]
    assert open_peer(told, saved, role="member").run_dir == told
    with pytest.raises(DataError, match=r"context.* now and .* there"):
        open_peer(told, {name: value for name, value in saved.items() if name != "context"}, role="member")


def test_a_model_that_reads_no_context_is_refused_one(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"and TinyEncoder reads no context; set context\.fields=\[\]"):
        _learn(store, tmp_path, *TOLD, "model._target_=worlds.TinyEncoder", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def sided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People keep to one direction all their lives, which is written down in the table of people."""
    random, lines, people = np.random.default_rng(0), ["user,item,time"], ["id,side"]
    for user in range(NUM_USERS):
        item, side = int(random.integers(NUM_ITEMS)), str(random.choice(["left", "right"]))
        people.append(f"u{user},{side}")
        for step in range(8):
            lines.append(f"u{user},i{item},{1_000 * step + user}")
            item = (item + (1 if side == "left" else HALF - 1)) % NUM_ITEMS
    folder = tmp_path_factory.mktemp("sided")
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    (folder / "people.csv").write_text("\n".join(people) + "\n")
    told = (f"users.path={folder / 'people.csv'}", "users.id=id", "+users.attributes.side=side", "users=file")
    columns = ("data.columns.user=user", "data.columns.item=item", "data.columns.time=time")
    source = ("data=csv", f"data.path={folder / 'events.csv'}", *columns, f"out={folder / 'store'}", "progress=false")
    assert main(["ingest", *source, *told]) == 0
    return folder / "store"


def test_an_attribute_of_a_user_tells_what_a_history_of_one_event_cannot(sided: Path, tmp_path: Path) -> None:
    found, runs = {}, {}
    for name, more in {"blind": (), "told": ("context.fields=[side]",)}.items():
        runs[name] = _learn(sided, tmp_path / name, *LEARNED, *more)
        model, config = load_model(runs[name])
        cases, train = _test_cases(sided, config)
        stops = cases.inputs.offsets[1:]
        short = cases.inputs.slices(stops - 1, stops, cases.inputs.asked_at, cases.inputs.asked_in)
        scorer = ModelScorer(model)  # type: ignore[arg-type]  # any module that was trained
        found[name] = evaluate(scorer, replace(cases, inputs=short), train).metrics["ndcg@10"]
    assert found["told"] > 0.95
    assert found["blind"] < 0.9
    _check_answers(runs["told"], sided, tmp_path)


def _check_answers(run: Path, store: Path, root: Path) -> None:
    """Who is known need not be told about; who is not can be; and what a request tells comes first."""
    assert main(["evaluate", f"run={run}", "baselines=false", "progress=false"]) == 0
    quick = ("sealing.gates.parity_rows=50", f"out={root / 'bundles'}", f"paths.root={root}")
    assert main(["export", f"run={run}", *quick]) == 0
    recommender = Recommender.open(root / "bundles")
    model, config = load_model(run)
    opened = open_store(store, config)
    expected = ModelScorer(model).queries(opened.sequences)  # type: ignore[arg-type]  # any module that was trained
    for user in range(0, NUM_USERS, 25):
        query = recommender.query(RecommendRequest(user_id=opened.users.id(user + 1)))
        assert query is not None
        np.testing.assert_allclose(query, expected[user], atol=1e-4)

    def best(side: str) -> str:
        request = RecommendRequest(session=Session(recent=["i5"]), context={"side": side}, k=1)
        return recommender.recommend(request).items[0].item_id

    assert (best("left"), best("right")) == ("i6", "i14")
    queries = [
        recommender.query(RecommendRequest(user_id=opened.users.id(1), context={"side": side}))
        for side in ("left", "right")
    ]
    assert queries[0] is not None
    assert queries[1] is not None
    assert not np.allclose(queries[0], queries[1], atol=1e-3)
