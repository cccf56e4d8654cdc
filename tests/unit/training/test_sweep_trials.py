"""The order of trials, their table and their plots, from records alone."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from retrank.training.multirun import report
from retrank.training.sweep_figures import parallel_coordinates, validation_curves
from retrank.training.sweep_trials import Trial, as_text, ranked

GOOD = Trial(0, {"model.width": 64, "optim.learning_rate": 1e-3}, Path("a"), None, [(1, 0.1), (2, 0.3), (3, 0.2)], 12.0)
FLAT = Trial(1, {"model.width": 32, "optim.learning_rate": 1e-1}, Path("b"), None, [(1, 0.2)], 5.0)
FAILED = Trial(2, {"model.width": 32, "optim.learning_rate": 1.0}, Path("c"), "TrainingError: loss is nan")
trials = st.builds(
    Trial,
    number=st.integers(0, 99),
    params=st.just({}),
    run_dir=st.just(Path()),
    reason=st.sampled_from([None, "it broke"]),
    curve=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=4),
)


def test_a_trial_is_worth_its_best_validation() -> None:
    assert (GOOD.value, GOOD.best_epoch) == (0.3, 2)
    assert (FAILED.value, FAILED.best_epoch) == (None, None)


@given(st.lists(trials, max_size=8))
def test_ranking_keeps_every_trial_and_puts_failures_last(found: list[Trial]) -> None:
    order = ranked(found)
    assert sorted(map(id, order)) == sorted(map(id, found))
    values = [trial.value for trial in order]
    known = [value for value in values if value is not None]
    assert values == sorted(known, reverse=True) + [None] * (len(values) - len(known))


def test_the_table_is_ranked_and_names_the_failure() -> None:
    lines = as_text([FAILED, FLAT, GOOD]).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]
    assert lines[0].split()[-2:] == ["model.width", "optim.learning_rate"]
    assert "failed" in lines[3]
    assert lines[4] == "trial 2 failed: TrainingError: loss is nan"


def test_the_plot_names_every_axis_its_values_and_the_failure() -> None:
    svg = parallel_coordinates([GOOD, FLAT, FAILED])
    for text in ("learning_rate", "width", ">32<", ">64<", ">failed<", "NDCG@10"):
        assert text in svg
    assert ">failed<" not in parallel_coordinates([GOOD, FLAT])


def test_trials_without_any_result_can_be_drawn() -> None:
    assert parallel_coordinates([FAILED]).startswith("<svg")
    assert validation_curves([FAILED]).startswith("<svg")


def test_a_value_that_is_missing_or_a_word_has_a_place_of_its_own() -> None:
    words = [Trial(0, {"loss": "bpr", "seed": None}, Path()), Trial(1, {"loss": "gbce", "seed": 3}, Path())]
    svg = parallel_coordinates(words)
    for text in (">bpr<", ">gbce<", ">none<"):
        assert text in svg


def test_only_what_differs_between_the_runs_of_a_multirun_is_an_axis(tmp_path: Path) -> None:
    runs = [(["name=x", "seed=1"], tmp_path / "0"), (["name=x", "seed=2"], tmp_path / "1")]
    for _, folder in runs:
        folder.mkdir()
        (folder / "run_card.json").write_text('{"training": {"validation": [{"epoch": 1, "ndcg@10": 0.25}]}}')
    report(runs, ["name=x", "seed=1,2"])
    page = (tmp_path / "sweep.html").read_text()
    assert "<th>seed</th>" in page
    assert "<th>name</th>" not in page
    assert "0.2500" in page
