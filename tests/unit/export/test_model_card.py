"""The model card says what is known, says so where nothing is, and hides no weakness."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import tiny_catalogue, tiny_model

from retrank.contract import bundle
from retrank.contract.actions import Actions, action_facts
from retrank.contract.bundle import verify
from retrank.data.licences import UNKNOWN, licence_of
from retrank.export.evidence import Evidence, Interval, weakest
from retrank.export.model_card import model_card
from retrank.export.parity import Parity
from retrank.export.ranker_card import doubts
from retrank.export.recall import Latency, Measured

SECTIONS = [
    "What it is for", "Data", "What people did", "Protocol", "Quality on the test cases",
    "Where it is good and where not", "Limitations", "As served", "Settings", "Made with",
]  # fmt: skip
LEAD = {"difference": 0.01, "low": -0.02, "high": 0.03}
REPORT = {
    "num_cases": 1234,
    "slices": [
        {"by": "history length", "label": "1-4", "count": 500, "hr": 0.2, "ndcg": 0.05},
        {"by": "target popularity", "label": "tail", "count": 700, "hr": 0.1, "ndcg": 0.01},
        {"by": "target popularity", "label": "untrained", "count": 3, "hr": 0.0, "ndcg": 0.0},
    ],
    "baselines": [
        {
            "name": "ease",
            "metrics": {"ndcg@10": 0.19, "hr@10": 0.4, "mrr@10": 0.1},
            "model_minus_baseline_ndcg@10": LEAD,
        }
    ],
    "verdict": {"leads": True, "clear": False, "rival": "ease", "text": "It leads, perhaps by chance.", "reasons": []},
}
EVIDENCE = Evidence(
    card={"created_at": "2024-01-01", "machine": {"cpu": "abacus", "cores": 2}, "versions": {"retrank": "0.1.0"}},
    report=REPORT,
    quality={name: Interval(0.2, 0.18, 0.22) for name in ("ndcg@10", "hr@10", "mrr@10")},
    left_out={"cancellation|return": 17, "never seen": 0},
    licence="CC BY 4.0",
)


PARITY = Parity(rows=200, max_difference=1e-6, top_k=20, identical=200, near_ties=0, different=0)
ACTIONS = Actions(action_facts(["view", "open", "share"], np.array([1, 2, 2, 3]), {}))
MEASURED = Measured(None, "Flat", {}, 50, 1.0, 100, Latency(1.0, 2.0), Latency(1.0, 2.0))


def card_of(evidence: Evidence) -> str:
    model = replace(tiny_model(), evidence=evidence, config={"model": {"width": 8}, "seed": 3})
    return model_card(model, tiny_catalogue().facts, PARITY, MEASURED, actions=ACTIONS)


@pytest.fixture(scope="module")
def full() -> str:
    return card_of(EVIDENCE)


def test_every_bundle_has_a_card_with_every_section(tiny_bundle: Path, full: str) -> None:
    for card in (verify(tiny_bundle).path(bundle.MODEL_CARD).read_text(), full):
        assert re.findall(r"^## (.*)$", card, flags=re.MULTILINE) == SECTIONS


def test_the_model_stands_with_its_interval_beside_the_baselines(full: str) -> None:
    assert "**0.2000** (0.1800 to 0.2200)" in full
    assert "| ease | 0.1900 | 0.4000 | 0.1000 | +0.0100 (-0.0200 to +0.0300) |" in full
    assert "1,234 test cases" in full


def test_data_licence_and_rows_left_out_are_named(full: str) -> None:
    assert "CC BY 4.0" in full
    assert "cancellation|return 17" in full
    assert "never seen" not in full


def test_the_card_says_what_each_action_is_live(full: str, tiny_bundle: Path) -> None:
    assert "| view | click | 1 | no |" in full  # a live click is read as the commoner action
    assert "| open | click | 2 | click |" in full
    assert "| share | custom | 1 | custom, named share |" in full
    assert "The data does not say" in verify(tiny_bundle).path(bundle.MODEL_CARD).read_text()


def test_limits_follow_from_the_figures(full: str) -> None:
    assert "Weakest by target popularity: tail (700), NDCG@10 0.0100" in full  # three cases are too few to say so
    assert "not shown to be better than ease" in full


def test_a_clear_lead_is_not_called_doubtful() -> None:
    clear = replace(EVIDENCE, report={**REPORT, "verdict": {**REPORT["verdict"], "clear": True}})  # type: ignore[dict-item]
    assert "not shown to be better" not in card_of(clear)


def test_what_is_not_known_is_said(tiny_bundle: Path) -> None:
    card = verify(tiny_bundle).path(bundle.MODEL_CARD).read_text()
    assert UNKNOWN in card
    assert "No baseline was evaluated" in card
    assert "rows left out: none recorded" in card


def test_the_settings_of_the_run_are_in_the_card(full: str) -> None:
    assert "width: 8" in full
    assert "seed: 3" in full


def test_no_slice_is_weakest_when_all_are_small() -> None:
    assert weakest([{"by": "history length", "label": "0", "count": 2, "hr": 0, "ndcg": 0}]) is None


@pytest.mark.parametrize("name", ["online_retail", "movielens_1m", "deskdrop"])
def test_known_data_has_a_licence(name: str) -> None:
    assert licence_of(name) != UNKNOWN


def test_other_data_has_none() -> None:
    assert licence_of("my_shop") == UNKNOWN


def test_a_ranker_that_is_behind_whom_it_should_lead_is_warned_of() -> None:
    ahead, level = {"difference": 0.02, "low": 0.01, "high": 0.03}, LEAD
    behind = {"difference": -0.0665, "low": -0.112, "high": -0.0202}
    assert doubts("shop/ranker", {"against_retriever": ahead, "against_blend": level}) == []
    assert doubts("shop/ranker", {}) == []
    (said,) = doubts("shop/ranker", {"against_retriever": behind, "against_blend": None})
    assert said == (
        "WARNING: ranker shop/ranker is behind its retriever: NDCG@10 -0.0665 (-0.1120 to -0.0202, 95 % interval); "
        "export without ranker=, or train it longer"
    )


def test_a_bundle_with_a_ranker_says_what_it_predicts(ranked_bundle: Path) -> None:
    card = verify(ranked_bundle).path(bundle.MODEL_CARD).read_text()
    assert "## The ranker" in card
    assert "- run: tiny/ranker" in card
    assert "- test metrics: NDCG@10 0.2500" in card
    assert "- candidates: sequence 6, covisit 5, neighbours 5, popular 4, fresh 3" in card
    assert "| value | value | purchase | 1 | every event |" in card
    assert "- against the retriever: not recorded" in card
    assert "can be trusted was not recorded" in card
