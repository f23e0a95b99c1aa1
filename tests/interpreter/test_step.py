"""The compiled step: the outputs of the plain one, whatever comes and goes."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import wait

import pytest
import tiny
from engine_room import batch_of, inside

from paw_mlx import Interpreter, Options, Program
from paw_mlx.device import assume_gpu
from paw_mlx.interpreter.engine import step

WORDS = ["the", "disk", "is", "full", "picnic", "server", "down", "0", "1"]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes as they are traced, after two steps instead of more."""
    shapes: list[tuple[int, ...]] = []
    make = step.Step._function  # no user sees whether a step was compiled

    def note(self: step.Step, *shape: int) -> Callable[..., object]:
        shapes.append(shape)
        return make(self, *shape)

    monkeypatch.setattr(step, "PATIENCE", 2)
    monkeypatch.setattr(step.Step, "_function", note)
    return shapes


def calls(family: str, num: int) -> list[tuple[Program, str, Options]]:
    """Programs mixed at first, then one alone; lengths and samplers of all sorts."""
    chance = random.Random(1)
    programs = [tiny.program(family, seed) for seed in (1, 2, 3)] + [tiny.program(family, None)]
    made = []
    for i in range(num):
        text = " ".join(chance.choices(WORDS, k=chance.randrange(1, 12)))
        drawn = {"temperature": 0.8, "seed": i} if i % 5 == 0 else {}
        options = Options(max_tokens=chance.randrange(1, 40), **drawn)
        made.append((programs[i % 4 if i < num // 2 else 1], text, options))
    return made


@pytest.mark.slow
def test_outputs_are_the_plain_steps(family, folder, traced):
    asked = calls(family, 40)
    with Interpreter.load(str(folder), max_rows=4) as plain:
        expected = [plain.run(*call).text for call in asked]
    with Interpreter.load(str(folder), max_rows=4) as compiled, assume_gpu():
        batch_of(compiled).ahead = True
        futures = [compiled.submit(*call) for call in asked]
        assert [future.result(120).text for future in futures] == expected
        assert [compiled.run(*call).text for call in asked] == expected
    rows = {shape[0] for shape in traced}
    assert {1, 4} <= rows


def test_a_program_that_comes_later_is_not_taken_for_another(family, folder, traced):
    programs = [tiny.program(family, seed) for seed in range(1, 6)]
    options = Options(max_tokens=20, lookup=False)
    with Interpreter.load(str(folder), max_rows=2) as plain:
        expected = [plain.run(p, "the disk", options).text for p in programs]
    with Interpreter.load(str(folder), max_rows=2) as compiled, assume_gpu():
        for count in range(1, len(programs) + 1):  # each new one is written beside the others
            for _ in range(2):
                futures = [compiled.submit(p, "the disk", options) for p in programs[:count]]
                assert [future.result(60).text for future in futures] == expected[:count]
    assert traced


def test_traces_hold_no_weights_once_the_bank_writes_or_closes(family, folder, traced):
    with Interpreter.load(str(folder)) as compiled, assume_gpu():
        compiled.run(tiny.program(family, 1), "the disk", Options(max_tokens=20))
        batch, num = batch_of(compiled), len(traced)
        assert num
        inside(compiled, lambda batch: batch.bank.heat(tiny.program(family, 2)))
        compiled.run(tiny.program(family, 2), "the disk", Options(max_tokens=20))
        assert len(traced) > num  # the old ones were of no use
    assert not batch._step._traces  # what is left would keep the base's weights


def test_rows_that_fail_or_leave_change_nothing_for_the_others(family, folder, traced):
    program, options = tiny.program(family, 1), Options(max_tokens=30)
    texts = [f"{word} {i}" for i, word in enumerate(WORDS)]
    with Interpreter.load(str(folder), max_rows=4) as plain:
        expected = [plain.run(program, text, options).text for text in texts]
    with Interpreter.load(str(folder), max_rows=4) as compiled, assume_gpu():
        for _ in range(3):
            futures = [compiled.submit(program, text, options) for text in texts * 2]
            for future in futures[1::2]:
                future.cancel()
            wait(futures, timeout=60)
            kept = [(i, f.result(0).text) for i, f in enumerate(futures) if not f.cancelled()]
            assert all(text == expected[i % len(texts)] for i, text in kept)


def test_a_draft_whose_later_numbers_are_not_finite_is_cut_before_them(family, folder):
    options, text = Options(max_tokens=60), "the disk is full the disk is full the disk is full"
    program = tiny.program(family, 1)
    with Interpreter.load(str(folder), max_rows=1) as interpreter:
        fn = interpreter.function(program)
        expected = [fn.run(f"{text} {i}", options) for i in range(6)]
        step_, spoiled = batch_of(interpreter)._step, []
        compute = step_.logits

        def spoil(tokens, lengths):
            logits = compute(tokens, lengths)
            if tokens.shape[1] > 1:
                spoiled.append(tokens.shape[1])
                logits[:, 1:] = float("nan")
            return logits

        step_.logits = spoil
        found = [fn.run(f"{text} {i}", options) for i in range(6)]
    assert [result.text for result in found] == [result.text for result in expected]
    assert spoiled
