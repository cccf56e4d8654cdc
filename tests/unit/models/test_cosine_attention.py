"""Attention through cosines: its definition, what cannot change it, and the law it is there for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ranker_worlds import DAY, draw, flat, make_inputs, make_ranker, scores, train
from torch.nn import functional as F

from retrank.contract.errors import ConfigError
from retrank.export.ranker_to_onnx import export_ranker, run_ranker
from retrank.export.to_onnx import open_encoder
from retrank.metrics.calibration import auc
from retrank.models.cosine_attention import CosineAttention
from retrank.models.ranker import Ranker, RankerInputs
from retrank.models.target_attention import age_buckets


def attention(num_actions: int = 2) -> CosineAttention:
    """Return one with biases of a size at which they matter."""
    torch.manual_seed(0)
    made = CosineAttention(8, num_actions=num_actions, num_heads=2).eval()
    for bias in (made.age_bias, made.action_bias):
        torch.nn.init.normal_(bias)
    return made


def blind(inputs: RankerInputs) -> Ranker:
    """Return a ranker that reads features and cosines, and no vector."""
    return make_ranker(inputs, read_vectors=False, cosine_attention=True)


def test_it_is_that_of_a_loop_over_candidates_and_events() -> None:
    made, candidates, events = attention(), torch.randn(1, 3, 6), torch.randn(1, 4, 6)
    ages, actions = torch.tensor([[-1, 90_000, 70, 0]]), torch.tensor([[0, 1, 0, 2]])
    buckets = age_buckets(ages, made.edges)
    expected = torch.zeros(3, 8)
    for c in range(3):
        for number, head in enumerate((slice(0, 4), slice(4, 8))):
            total, mixed = torch.ones(()), torch.zeros(4)  # 1: the null event
            for event in range(1, 4):
                age, action = int(buckets[0, event]), int(actions[0, event])
                near = F.cosine_similarity(candidates[0, c], events[0, event], dim=0)
                logit = made.sharpness[number] * near + made.age_bias[age, number] + made.action_bias[action, number]
                value = (made.age_value[age] + made.action_value[action])[head] + near * made.likeness[number, 0]
                total, mixed = total + logit.exp(), mixed + logit.exp() * value
            expected[c, head] = mixed / total
    torch.testing.assert_close(made(candidates, events, ages, actions)[0], made.output(expected))


def test_a_turn_of_all_vectors_their_lengths_and_padding_change_nothing() -> None:
    made, inputs = attention(), make_inputs(2, 3)
    asked = (inputs.history_ages, inputs.history_actions)
    expected = made(inputs.candidate_vectors, inputs.history_vectors, *asked)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    turned = made(7 * inputs.candidate_vectors @ turn, inputs.history_vectors @ turn, *asked)
    torch.testing.assert_close(turned, expected)
    ages, actions = F.pad(asked[0], (2, 0), value=-1), F.pad(asked[1], (2, 0))
    padded = made(inputs.candidate_vectors, F.pad(inputs.history_vectors, (0, 0, 2, 0)), ages, actions)
    torch.testing.assert_close(padded, expected)
    nothing = made(inputs.candidate_vectors, inputs.history_vectors, torch.full_like(asked[0], -1), asked[1])
    assert not nothing.any()


def test_without_actions_it_does_not_ask_what_was_done() -> None:
    made, inputs = attention(num_actions=0), make_inputs(2, 3)
    first, second = (
        made(inputs.candidate_vectors, inputs.history_vectors, inputs.history_ages, inputs.history_actions + more)
        for more in (0, 5)
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("changes", [{"width": 7}, {"width": 0}, {"num_actions": -1}, {"num_heads": 0}])
def test_sizes_that_cannot_work_are_refused(changes: dict[str, int]) -> None:
    sizes = {"width": 8} | changes
    with pytest.raises(ConfigError, match="must be a multiple of"):
        CosineAttention(sizes.pop("width"), **sizes)


def test_nearness_to_a_recent_event_is_learned_from_few_requests_without_reading_vectors() -> None:
    """One event is an hour old, the other 200 days, in random order; a click goes to what is near the recent one."""

    def few(num_requests: int, seed: int) -> tuple[RankerInputs, torch.Tensor]:
        inputs = make_inputs(num_requests, 6, width=32, length=2, seed=seed)
        recent = draw(torch.full((num_requests,), 0.5), seed).long()
        ages = F.one_hot(1 - recent, 2) * 200 * DAY + 3600
        near = (inputs.candidate_vectors @ inputs.history_vectors[torch.arange(num_requests), recent][..., None])[
            ..., 0
        ]
        nothing = torch.zeros(num_requests, 6, 1)
        unasked = torch.zeros_like(inputs.query)
        return inputs._replace(features=nothing, query=unasked, history_ages=ages), draw(
            torch.sigmoid(20 * near - 2), seed
        )[..., None]

    (inputs, labels), (fresh, wanted) = few(600, 0), few(400, 1)
    found = {
        "cosines": train(blind(inputs), inputs, labels, num_steps=100),
        "features": train(make_ranker(inputs, read_vectors=False), inputs, labels, num_steps=100),
    }
    quality = {name: auc(flat(scores(ranker, fresh)), flat(wanted)) for name, ranker in found.items()}
    assert quality["cosines"] > 0.9
    assert quality["features"] == pytest.approx(0.5, abs=0.02)


def test_the_exported_graph_answers_alike(tmp_path: Path) -> None:
    inputs = make_inputs(3, 5)
    ranker = blind(inputs).eval()
    export_ranker(ranker, tmp_path / "ranker.onnx")
    asked = make_inputs(2, 4, length=6, seed=3)
    asked.history_ages[0, :2] = -1
    seen = run_ranker(open_encoder(tmp_path / "ranker.onnx"), {k: v.numpy() for k, v in asked._asdict().items()})
    np.testing.assert_allclose(seen, ranker(*asked).detach().numpy(), atol=1e-5, rtol=1e-5)
