"""The loop of training, on parameters that are no LoRA: it serves whatever has a gradient."""

from __future__ import annotations

from itertools import chain, cycle, repeat

import mlx.core as mx
import mlx.nn as nn
import pytest

from paw_mlx import CompileError
from paw_mlx.training.checkpoint import Checkpoints
from paw_mlx.training.loop import Check, Fit, TrainingStep, Way

NOTHING = Check(0.0, 1e9)


def fit(loss, parameters, batches, judge, report=lambda step: None, kept=None, **way):
    chosen = Way(**{"checks": way["steps"], "patience": 10**6, "learning_rate": 0.5} | way)
    return Fit(loss, parameters, NOTHING, judge, chosen, kept).run(batches, report)


def down(parameters: dict, batch: mx.array) -> mx.array:
    return (parameters["x"] * batch).sum()


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
        lambda parameters: Check(0.5, float(loss(parameters, slice(None)))),
        steps.append,
        steps=90,
        learning_rate=0.05,
        checks=3,
    )
    assert [step.number for step in steps] == list(range(1, 91))
    assert steps[44].share == 0.5
    checked = {step.number: step.check.loss for step in steps if step.check}
    assert list(checked) == [30, 60, 90]
    assert checked[best] == min(checked.values()) < 0.1 * steps[0].loss
    assert float(loss(found, slice(None))) == pytest.approx(checked[best])


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([(0.1, 1.0), (0.8, 2.0), (0.5, 0.5)], 2),  # the metric counts, not the loss
        ([(0.8, 1.0), (0.8, 2.0), (0.8, 0.5)], 3),  # between equals the loss
        ([(0.0, 2e9), (0.0, 2e9), (0.0, 2e9)], 0),  # none was better than the first
    ],
)
def test_the_state_that_did_best_is_the_one_that_is_kept(checks, expected):
    judged = iter([Check(*check) for check in checks])
    seen = [5.0]
    best, found = fit(
        down,
        {"x": mx.array([5.0])},
        repeat([mx.array([1.0])]),
        lambda parameters: (seen.append(float(parameters["x"])), next(judged))[1],
        steps=3,
    )
    assert best == expected
    assert float(found["x"]) == seen[expected]


def test_it_ends_where_nothing_gets_better_but_not_before_half_of_the_way():
    steps: list[TrainingStep] = []
    metrics = chain([0.5, 0.4, 0.3, 0.2], repeat(0.1))
    best, _ = fit(
        down,
        {"x": mx.array([5.0])},
        repeat([mx.array([1.0])]),
        lambda parameters: Check(next(metrics), 1.0),
        steps.append,
        steps=20,
        patience=2,
    )
    assert (best, len(steps)) == (1, 10)


def test_it_ends_where_there_is_nothing_left_to_learn():
    steps: list[TrainingStep] = []
    metrics = chain([0.5, 1.0, 0.9], repeat(1.0))
    fit(
        down,
        {"x": mx.array([5.0])},
        repeat([mx.array([1.0])]),
        lambda parameters: Check(next(metrics), 1.0),
        steps.append,
        steps=20,
    )
    assert len(steps) == 6


def test_seconds_end_it_and_the_last_state_is_judged():
    steps: list[TrainingStep] = []
    fit(
        down,
        {"x": mx.array([5.0])},
        repeat([mx.array([1.0])]),
        lambda parameters: Check(0.5, 1.0),
        steps.append,
        steps=10**6,
        checks=1,
        seconds=0.05,
    )
    assert 0 < len(steps) < 10**5
    assert steps[-1].check
    assert steps[-1].share == 1
    assert not any(step.check for step in steps[:-1])


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_run_that_was_cut_off_ends_as_an_unbroken_one(tmp_path, cut):
    """Also where names have dots, which are no paths, and where it stops between two checks."""
    batches = [[mx.array([float(i % 3), 1.0])] for i in range(9)]

    def loss(parameters: dict, batch: mx.array) -> mx.array:
        return ((parameters["0.q_proj"][0] * batch - parameters["0.q_proj"][1]) ** 2).sum()

    def run(kept: Checkpoints | None, stop: int = 99) -> tuple[int, list[float], list[int]]:
        numbers: list[int] = []

        def report(step: TrainingStep) -> None:
            numbers.append(step.number)
            if step.number == stop:
                raise KeyboardInterrupt

        best, found = fit(
            loss,
            {"0.q_proj": [mx.array([5.0, 1.0]), mx.array([1.0, 2.0])]},
            batches,
            lambda p: Check(0.5, float(p["0.q_proj"][0].sum())),
            report,
            kept,
            steps=9,
            checks=4,
        )
        return best, [float(x) for array in found["0.q_proj"] for x in array], numbers

    right = run(None)
    kept = Checkpoints(tmp_path, "one run")
    with pytest.raises(KeyboardInterrupt):
        run(kept, stop=cut)
    best, found, numbers = run(kept)
    assert (best, found) == right[:2]
    assert numbers == list(range(cut // 2 * 2 + 1, 10))
    assert run(Checkpoints(tmp_path, "another run"))[2] == list(range(1, 10))
    (tmp_path / "checkpoint.safetensors").write_bytes(b"damaged")
    assert run(kept)[2] == list(range(1, 10))


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(CompileError, match="the loss of step 2 is nan"):
        fit(
            lambda parameters, batch: parameters["x"] * batch,
            {"x": mx.array(1.0)},
            [[mx.array(1.0)], [mx.array(float("nan"))]],
            lambda parameters: Check(0.5, 0.0),
            steps=2,
        )


def test_a_batch_in_parts_is_the_batch():
    def trained(batches: list[list[mx.array]]) -> tuple[list[float], dict]:
        losses: list[float] = []
        _, found = fit(
            lambda parameters, part: ((parameters["x"] - part) ** 2).sum(),
            {"x": mx.array([5.0])},
            batches,
            lambda parameters: Check(0.5, -len(losses)),  # the last is the best
            lambda step: losses.append(step.loss),
            steps=2,
        )
        return losses, found

    whole = trained([[mx.array([1.0, 2.0, 3.0])]] * 2)
    parts = trained([[mx.array([1.0]), mx.array([2.0, 3.0])]] * 2)
    assert parts[0] == pytest.approx(whole[0])
    assert float(parts[1]["x"]) == pytest.approx(float(whole[1]["x"]))


def test_the_rate_rises_for_a_tenth_of_the_way_and_falls_to_nothing():
    way = Way(steps=100, learning_rate=1.0, checks=1, patience=1)
    rates = [way.rate(way.share(step, 0.0)) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[99] == pytest.approx(0.0, abs=1e-6)
