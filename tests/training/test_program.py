"""Training on tiny bases: the right loss, the right rows, a program that has learned."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import exp

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny

from paw_mlx import (
    AdapterMismatch,
    CompileError,
    InputTooLong,
    Interpreter,
    OptionError,
    Options,
    formats,
)
from paw_mlx.cases import Case
from paw_mlx.device import assume_gpu
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.training import memory
from paw_mlx.training.loop import add_up
from paw_mlx.training.program import shots, split, train
from paw_mlx.training.recipe import Recipe
from paw_mlx.training.trainer import Parameters, Trainer

WORDS = ["disk", "server", "picnic", "spring", "Friday", "down", "full", "welcome"]
CASES = [Case(f"{a} {b}", "1" if {a, b} & {"disk", "down"} else "0") for a in WORDS for b in WORDS]
RECIPE = Recipe(rank=4, alpha=8.0, steps=40, learning_rate=1e-2, shots=2)


@pytest.fixture(params=tiny.FAMILIES)
def base(request, tmp_path):
    return load_base(tiny.write_base(tmp_path / "base", request.param))


@pytest.mark.parametrize(
    ("kept_bytes", "expected_parts"),
    [(10**9, [(3, False)]), (600_000, [(3, True)]), (1, [(1, True)] * 3)],
)
def test_a_shared_prefix_and_small_steps_change_neither_loss_nor_gradient(
    base, monkeypatch, kept_bytes, expected_parts
):
    template = tiny.program("llama").template
    trainer = Trainer(base, template, RECIPE)
    parameters = trainer.initial()
    for pair in parameters.values():  # B begins as zero, and then A has no gradient
        pair[1] = 0.1 * mx.random.normal(pair[1].shape, key=mx.random.key(1))
    cases = [Case("disk full", "ALERT"), Case("the picnic on Friday", "QUIET"), Case("", "x")]
    encode = base.tokenizer.encode

    def row_by_row(parameters: Parameters) -> mx.array:
        """The definition: every row alone, prefix and all, nothing padded or shared."""
        lora.attach(base.groups, trainer.pairs(parameters))
        losses = []
        for case in cases:
            prompt = encode(template.prefix, control=True) + encode(case.input)
            prompt += encode(template.suffix, control=True)
            output = [*encode(case.output), base.end]
            hidden = base.model.hidden(mx.array([prompt + output[:-1]]), KV(base.model.num_layers))
            logits = base.model.logits(hidden)[0, len(prompt) - 1 :]
            losses.append(nn.losses.cross_entropy(logits, mx.array(output)))
        return mx.concatenate(losses).mean()

    monkeypatch.setattr(memory, "KEPT_BYTES", kept_bytes)
    parts = trainer.parts(cases)
    assert [(part.batch.tokens.shape[0], part.checkpointed) for part in parts] == expected_parts
    ours = add_up(mx.value_and_grad(trainer.loss)(parameters, part) for part in parts)
    right = mx.value_and_grad(row_by_row)(parameters)
    assert float(ours[0]) == pytest.approx(float(right[0]), abs=1e-5)
    for site, pair in right[1].items():
        for mine, expected in zip(ours[1][site], pair, strict=True):
            assert np.abs(np.array(expected)).max() > 0
            np.testing.assert_allclose(np.array(mine), np.array(expected), atol=2e-5)


def test_a_trained_program_has_learned_and_survives_its_file(base, tmp_path):
    steps = []
    trained = train(base, "Triage.", CASES, RECIPE, steps.append)
    assert [step.number for step in steps] == list(range(1, 1 + len(trained.curve)))
    assert len(steps) <= RECIPE.steps
    assert trained.after.loss < 0.5 * trained.before.loss
    assert trained.after.accuracy > trained.before.accuracy == 0
    checked = {step.number: step.check for step in steps if step.check}
    assert checked[trained.best_step].rank == max(check.rank for check in checked.values())
    # Seven rows are held out: what so few get right is chance, so they judge by their loss.
    assert checked[trained.best_step].metric == pytest.approx(exp(-trained.after.loss), abs=0.01)
    assert trained.program.spec == "Triage."
    path = tmp_path / "triage.paw"
    formats.save(trained.program, path, dtype="f32", profile=base.profile)
    with Interpreter.load(str(tmp_path / "base")) as interpreter:
        loaded = formats.load(path)
        _, held_out = split(CASES, RECIPE)
        score = interpreter.score(loaded, held_out)
        assert score.accuracy == trained.after.accuracy
        said = [
            interpreter.run(loaded, case.input, Options(max_tokens=8)).text for case in held_out
        ]
        right = sum(text == case.output for text, case in zip(said, held_out, strict=True))
        assert right / len(held_out) == score.accuracy


@pytest.mark.slow
def test_a_base_of_16_bits_learns_as_a_gpu_would_hold_it(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES", 1)
    folder = tiny.write_base(tmp_path / "base", "qwen3")
    with assume_gpu():
        base = load_base(folder, trainable=True)
        trained = train(base, "Triage.", CASES, replace(RECIPE, steps=20))
    assert base.form == "bfloat16"
    assert trained.program.adapter.dtypes == ("f32",)
    assert trained.after.loss < 0.5 * trained.before.loss


def test_a_small_step_takes_less_memory(tmp_path, monkeypatch):
    monkeypatch.setitem(tiny.CONFIGS["llama"], "num_hidden_layers", 12)
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    trainer = Trainer(base, tiny.program("llama").template, RECIPE)
    parameters, cases = trainer.initial(), [Case("disk " * 20, "1")] * 8

    def peak(kept_bytes: int) -> tuple[list[bool], int]:
        monkeypatch.setattr(memory, "KEPT_BYTES", kept_bytes)
        parts = trainer.parts(cases)
        before = tiny.active_bytes()
        mx.reset_peak_memory()
        add_up(mx.value_and_grad(trainer.loss)(parameters, part) for part in parts)
        return [part.checkpointed for part in parts], mx.get_peak_memory() - before

    plain, twice, apart = (peak(kept_bytes) for kept_bytes in (10**9, 10**7, 1))
    assert [found[0] for found in (plain, twice, apart)] == [[False], [True], [True] * 8]
    assert plain[1] > 2 * twice[1] > 2 * apart[1]  # when what is let go goes, is MLX's affair


def test_a_training_that_diverges_says_so(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    with pytest.raises(CompileError, match=r"diverged: the loss of step \d+ is nan"):
        train(base, "Triage.", CASES, Recipe(rank=4, alpha=1e20, learning_rate=1e20))
    assert not any(group.form for group in base.groups)  # nothing of it is left on the base


def test_a_rank_that_no_adapter_has_is_refused_before_the_first_step(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    steps: list[object] = []
    with pytest.raises(AdapterMismatch, match="no low rank"):
        train(base, "Triage.", CASES, Recipe(rank=320, alpha=1.0, steps=1), steps.append)
    assert steps == []


def test_a_second_training_on_one_base_begins_bare(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    recipe = Recipe(rank=2, alpha=4.0, steps=2)
    first, second = (train(base, "Triage.", CASES, recipe) for _ in range(2))
    assert first.before == second.before
    assert first.program.digest() == second.program.digest()


def test_training_goes_on_from_a_program(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    first = train(base, "Triage.", CASES, RECIPE)
    more = Recipe(rank=4, alpha=16.0, steps=1, learning_rate=1e-9, shots=2)  # another scale
    second = train(base, "Triage.", CASES, more, start_from=first.program.adapter)
    assert second.before.loss == pytest.approx(first.after.loss, rel=1e-3)
    assert second.after.loss == pytest.approx(first.after.loss, rel=1e-3)
    with pytest.raises(AdapterMismatch, match=r"needs rank 2 .* this has \(4,\)"):
        train(base, "x", CASES, Recipe(rank=2, alpha=4.0), start_from=first.program.adapter)


def test_scores_are_those_of_what_is_stored(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    recipe = Recipe(rank=32, alpha=64.0, steps=10, learning_rate=1e-2)
    trained = train(base, "Triage.", CASES, recipe, dtype="q4_0")
    assert trained.program.adapter.dtypes == ("q4_0",)
    with Interpreter(base) as interpreter:
        assert interpreter.score(trained.program, split(CASES, recipe)[1]) == trained.after


def test_training_repeats_with_its_seed(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    short = {"steps": 3, "rank": 2, "alpha": 4.0}
    programs = [
        train(load_base(folder), "Triage.", CASES, Recipe(**short, seed=seed)).program
        for seed in (1, 1, 2)
    ]
    assert programs[0].digest() == programs[1].digest() != programs[2].digest()


def test_a_training_that_was_killed_at_its_end_is_not_done_again(tmp_path):
    base = load_base(tiny.write_base(tmp_path / "base", "llama"))
    steps = []
    first = train(base, "Triage.", CASES, RECIPE, folder=tmp_path / "work")
    second = train(base, "Triage.", CASES, RECIPE, steps.append, folder=tmp_path / "work")
    assert not steps
    assert second.program.digest() == first.program.digest()
    assert second.curve == first.curve


def test_rows_held_out_are_never_trained_on(base):
    twice = [*CASES, *CASES]
    rows, held_out = split(twice, RECIPE)
    assert not {row.input for row in rows} & {row.input for row in held_out}
    assert Counter(rows + held_out) == Counter(twice)
    shown = shots(rows, 4, base.tokenizer)
    assert sorted(row.output for row in shown) == ["0", "0", "1", "1"]
    long = [Case(f"{row.input} {'0 ' * 40}", row.output) for row in rows]
    assert len(shots(long, 4, base.tokenizer)) == 1


def test_what_cannot_be_trained_is_refused(base):
    for num in (1, 11):  # 11: enough until two are shown and two are held out
        with pytest.raises(OptionError, match="fewer than one batch of 8"):
            train(base, "Triage.", CASES[:num], RECIPE)
    with pytest.raises(OptionError, match="all 20 examples have the output '1'"):
        train(base, "Triage.", [Case(f"disk {i}", "1") for i in range(20)], RECIPE)
    with pytest.raises(InputTooLong, match=r"row 65: .* of its input and output"):
        train(base, "Triage.", [*CASES, Case("0 " * 300, "ALERT")] * 3, RECIPE)
    for wrong in (
        {"rank": 0},
        {"alpha": 0},
        {"learning_rate": -1},
        {"held_out": 1.0},
        {"seed": -1},
    ):
        with pytest.raises(OptionError):
            Recipe(**wrong)
