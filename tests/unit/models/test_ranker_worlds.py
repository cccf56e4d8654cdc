"""The ranker learns worlds whose law is known, and the parts that are meant for a law are the ones that do."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from ranker_worlds import CLICK, DAY, PURCHASE, VALUE, draw, flat, make_inputs, make_ranker, scores, train
from torch.nn import functional as F

from retrank.losses.multitask import MultitaskLoss
from retrank.metrics.calibration import auc
from retrank.models.ranker import Head, Ranker, RankerInputs


def test_a_product_of_two_features_is_learned_and_no_line_can_do_it() -> None:
    inputs, fresh = make_inputs(8000, 8), make_inputs(300, 8, seed=1)
    labels, wanted = (draw(torch.sigmoid(4 * each.features.prod(-1)))[..., None] for each in (inputs, fresh))
    ranker = train(make_ranker(inputs), inputs, labels)
    assert auc(flat(scores(ranker, fresh)), flat(wanted)) > 0.85
    line = torch.linalg.lstsq(F.pad(inputs.features.flatten(0, 1), (0, 1), value=1.0), labels.flatten(0, 1)).solution
    assert auc(flat(F.pad(fresh.features, (0, 1), value=1.0) @ line), flat(wanted)) < 0.6


def recent_interest(num_requests: int, seed: int) -> tuple[RankerInputs, torch.Tensor]:
    """One event is an hour old, the other 200 days, in random order; a click goes to what is near the recent one."""
    inputs = make_inputs(num_requests, 6, length=2, seed=seed)
    recent = draw(torch.full((num_requests,), 0.5), seed).long()
    ages = F.one_hot(1 - recent, 2) * 200 * DAY + 3600
    events = inputs.history_vectors
    near = (inputs.candidate_vectors @ events[torch.arange(num_requests), recent][..., None])[..., 0]
    features = torch.zeros(num_requests, 6, 1)  # nothing to learn here
    blind = inputs._replace(features=features, query=torch.zeros_like(inputs.query), history_ages=ages)
    return blind, draw(torch.sigmoid(8 * near - 2), seed)[..., None]


def test_nearness_counts_for_recent_events_and_not_for_old_ones() -> None:
    (inputs, labels), (fresh, wanted) = recent_interest(8000, 0), recent_interest(400, 1)
    ranker = train(make_ranker(inputs), inputs, labels)
    assert auc(flat(scores(ranker, fresh)), flat(wanted)) > 0.94
    ageless = fresh._replace(history_ages=torch.full_like(fresh.history_ages, DAY))
    assert auc(flat(scores(ranker, ageless)), flat(wanted)) < 0.86


def test_a_purchase_given_a_click_is_recovered_from_what_was_and_was_not_clicked() -> None:
    inputs, fresh = make_inputs(8000, 8), make_inputs(300, 8, seed=1)

    def law(each: RankerInputs) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = each.features.unbind(-1)
        return torch.sigmoid(1.5 * first - 0.5), torch.sigmoid(1.5 * second - first)

    clicked = draw(law(inputs)[0])
    bought = clicked * draw(law(inputs)[1], seed=2)
    labels = torch.stack([clicked, bought], -1)
    answers = scores(train(make_ranker(inputs, (CLICK, PURCHASE)), inputs, labels), fresh).sigmoid()
    click, purchase = answers.unbind(-1)
    assert (click - law(fresh)[0]).abs().mean() < 0.045
    assert (purchase / click - law(fresh)[1]).abs().mean() < 0.09
    assert (purchase <= click).all()


def test_the_mean_of_a_lognormal_amount_is_recovered() -> None:
    inputs, fresh = make_inputs(8000, 8), make_inputs(300, 8, seed=1)
    random = torch.Generator().manual_seed(3)
    bought = draw(torch.full((8000, 8), 0.4))
    noise = 0.8 * torch.randn(8000, 8, generator=random)
    labels = torch.stack([bought, bought * (inputs.features[..., 0] + 2 + noise).exp()], -1)
    heads = (Head("purchase", "binary"), VALUE)
    ranker = make_ranker(inputs, heads)
    ranker.fit_rates(labels.flatten(0, 1))
    expected = scores(train(ranker, inputs, labels), fresh)[..., 1]
    truth = (fresh.features[..., 0] + 2 + 0.8**2 / 2).exp()
    assert expected.mean().item() == pytest.approx(truth.mean().item(), rel=0.1)
    assert (expected.log() - truth.log()).abs().mean() < 0.16


def test_what_was_shown_first_is_not_taken_for_better_when_positions_are_known() -> None:
    """Shown by feature 1 with some chance, worth by feature 0: clicks alone credit feature 1 with its place."""
    inputs = make_inputs(8000, 8)
    random = torch.Generator().manual_seed(4)
    order = (inputs.features[..., 1] + torch.randn(8000, 8, generator=random)).argsort(descending=True)
    positions = order.argsort() + 1
    labels = draw(torch.sigmoid(inputs.features[..., 0] - 0.5 * (positions - 1)))[..., None]
    fresh = make_inputs(300, 8, seed=1)
    worth = torch.sigmoid(fresh.features[..., 0])
    found = {}
    for name, places in {"with": positions, "without": None}.items():
        ranker = train(make_ranker(inputs), inputs, labels, positions=places, num_steps=200)
        found[name] = np.corrcoef(flat(scores(ranker, fresh)), flat(worth.logit()))[0, 1]
        if places is not None:  # and what it says is how likely a click is in the first place
            assert (scores(ranker, fresh)[..., 0].sigmoid() - worth).abs().mean() < 0.07
    assert found["with"] > 0.93
    assert found["without"] < 0.9


@pytest.mark.parametrize("sharing", ["mmoe", "ple"])
def test_two_tasks_that_want_opposite_things_are_both_learned(sharing: Literal["mmoe", "ple"]) -> None:
    inputs, fresh = make_inputs(8000, 8), make_inputs(300, 8, seed=1)
    heads = (Head("likes", "binary"), Head("hides", "binary"))

    def law(each: RankerInputs) -> torch.Tensor:
        taste = 2 * each.features.prod(-1)
        return torch.sigmoid(torch.stack([taste, -taste + each.features[..., 1]], -1))

    ranker = train(make_ranker(inputs, heads, sharing=sharing), inputs, draw(law(inputs)))
    assert (scores(ranker, fresh).sigmoid() - law(fresh)).abs().mean() < 0.06


def test_uncertainty_weights_a_noisy_task_less() -> None:
    inputs, heads = make_inputs(500, 8), (Head("clear", "binary"), Head("noise", "binary"))
    labels = torch.stack([draw(torch.sigmoid(6 * inputs.features[..., 0])), draw(torch.full((500, 8), 0.5))], -1)
    loss = MultitaskLoss(heads, listwise=0.0, weighting="uncertainty")
    train(make_ranker(inputs, heads), inputs, labels, loss=loss)
    clear, noise, _ = loss.log_variances.tolist()
    assert clear < noise - 0.2


def test_heads_start_at_their_rates() -> None:
    inputs, heads = make_inputs(50, 4), (CLICK, PURCHASE, VALUE)
    labels = np.zeros((10_000, 3))
    labels[:1000, 0], labels[:50, 1], labels[:50, 2] = 1, 1, 20.0
    ranker = make_ranker(inputs, heads).eval()
    with torch.no_grad():
        for tower in ranker.towers:
            tower[-1].weight.zero_()  # type: ignore[index]  # ModuleList forgets the class
    ranker.fit_rates(labels)
    click, purchase, value = scores(ranker, inputs)[0, 0].tolist()
    assert 1 / (1 + math.exp(-click)) == pytest.approx(0.1, rel=0.01)
    assert 1 / (1 + math.exp(-purchase)) == pytest.approx(0.005, rel=0.05)
    assert value == pytest.approx(20, rel=0.01)


def test_a_ranker_overfits_a_handful_of_requests() -> None:
    inputs = make_inputs(16, 5)
    labels = torch.zeros(16, 5, 1)
    labels[:, 2] = 1
    ranker: Ranker = train(make_ranker(inputs), inputs, labels, loss=MultitaskLoss((CLICK,), listwise=1.0), batch=16)
    assert (scores(ranker, inputs)[..., 0].argmax(-1) == 2).all()
