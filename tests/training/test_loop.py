"""The loop of training, on parameters that are no LoRA: it serves whatever has a gradient."""

from __future__ import annotations

from itertools import cycle, islice, repeat

import mlx.core as mx
import mlx.nn as nn
import pytest

from paw_mlx import CompileError
from paw_mlx.training.loop import TrainingStep, fit, schedule, shuffled


def test_a_module_learns_a_line_and_the_best_state_is_kept():
    xs = mx.random.normal((64, 3), key=mx.random.key(0))
    ys = xs @ mx.array([[1.0], [-2.0], [0.5]]) + 3
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))

    def loss(parameters: dict, rows: slice) -> mx.array:
        model.update(parameters)
        return nn.losses.mse_loss(model(xs[rows]), ys[rows])

    steps: list[TrainingStep] = []
    best, found = fit(
        loss,
        model.trainable_parameters(),
        cycle([slice(start, start + 16)] for start in range(0, 64, 16)),
        lambda parameters: float(loss(parameters, slice(None))),
        steps.append,
        steps=90,
        learning_rate=0.05,
        checks=3,
    )
    assert [step.number for step in steps] == list(range(1, 91))
    checked = {s.number: s.held_out_loss for s in steps if s.held_out_loss is not None}
    assert list(checked) == [30, 60, 90]
    assert checked[best] == min(checked.values()) < 0.1 * steps[0].loss
    assert float(loss(found, slice(None))) == pytest.approx(checked[best])


def test_the_state_that_did_best_is_the_one_that_is_kept():
    judged = iter([2.0, 1.0, 3.0])
    best, found = fit(
        lambda parameters, batch: (parameters["x"] * batch).sum(),
        {"x": mx.array([5.0])},
        repeat([mx.array([1.0])]),
        lambda parameters: next(judged),
        lambda step: None,
        steps=3,
        learning_rate=1.0,
        checks=3,
    )
    assert best == 2
    assert 2.0 < float(found["x"]) < 5.0  # neither the first nor the last


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(CompileError, match="the loss of step 2 is nan"):
        fit(
            lambda parameters, batch: parameters["x"] * batch,
            {"x": mx.array(1.0)},
            [[mx.array(1.0)], [mx.array(float("nan"))]],
            lambda parameters: 0.0,
            lambda step: None,
            steps=2,
            learning_rate=0.1,
            checks=1,
        )


def test_a_batch_in_parts_is_the_batch():
    def trained(batches: list[list[mx.array]]) -> tuple[list[float], dict]:
        losses: list[float] = []
        _, found = fit(
            lambda parameters, part: ((parameters["x"] - part) ** 2).sum(),
            {"x": mx.array([5.0])},
            batches,
            lambda parameters: -len(losses),  # the last is the best
            lambda step: losses.append(step.loss),
            steps=2,
            learning_rate=0.5,
            checks=2,
        )
        return losses, found

    whole = trained([[mx.array([1.0, 2.0, 3.0])]] * 2)
    parts = trained([[mx.array([1.0]), mx.array([2.0, 3.0])]] * 2)
    assert parts[0] == pytest.approx(whole[0])
    assert float(parts[1]["x"]) == pytest.approx(float(whole[1]["x"]))


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_nothing():
    rate = schedule(100, 1.0)
    rates = [float(rate(mx.array(step))) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.0, abs=1e-6)


def test_every_row_is_seen_in_two_epochs_or_so():
    rows = [str(i) for i in range(50)]
    batches = list(islice(shuffled(rows, 8, seed=0), 18))
    assert {len(batch) for batch in batches} == {8}
    assert len({row for batch in batches for row in batch}) >= 48
    assert batches == list(islice(shuffled(rows, 8, seed=0), 18))
