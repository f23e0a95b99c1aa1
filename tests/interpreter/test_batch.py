"""The batch: which step is computed ahead, and a row that fails where others decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import tiny
from engine_room import batch_of, inside
from test_constraint import constrained

from paw_mlx import Interpreter, Labels, Options
from paw_mlx.interpreter.engine import batch

TEXTS = ["the disk is full", "picnic on Friday", "0 1 0 1 0 1", "Grüße", "the server is down"]
PLAIN = Options(max_tokens=12, lookup=False)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """After every step without drafts: the number of rows, and whether the next is on its way."""
    found: list[tuple[int, bool]] = []
    advance = batch.Batch._advance

    def spy(running: batch.Batch) -> list[list[int]]:
        tokens = advance(running)
        found.append((len(running.rows), running._next is not None))
        return tokens

    monkeypatch.setattr(batch.Batch, "_advance", spy)
    return found


def run_all(interpreter: Interpreter, family: str, options: Options, num: int = 5) -> list[str]:
    """What several inputs give that join together."""
    program, texts = tiny.program(family, 1), [f"{TEXTS[i % 5]} {i}" for i in range(num)]
    futures = inside(
        interpreter, lambda _: [interpreter.submit(program, text, options) for text in texts]
    )
    return [future.result(60).text for future in futures]


def test_a_gpu_is_given_the_next_step_before_one_is_read(interpreter, family, seen):
    expected = run_all(interpreter, family, PLAIN)
    assert {ahead for _, ahead in seen} == {False}
    seen.clear()
    batch_of(interpreter).ahead = True
    try:
        assert run_all(interpreter, family, PLAIN) == expected
        assert {ahead for _, ahead in seen} == {True}
        seen.clear()
        call = constrained(
            interpreter, tiny.program(family, 1), "picnic", Options(lookup=False), sure=False
        )
        assert call.future.result(60).text
        assert {ahead for _, ahead in seen} == {False}  # a mask waits for the tokens
    finally:
        batch_of(interpreter).ahead = False


def test_steps_are_not_computed_ahead_where_they_would_copy_much(
    interpreter, family, seen, monkeypatch
):
    monkeypatch.setattr(batch, "_AHEAD_BYTES", 1000)
    batch_of(interpreter).ahead = True
    try:
        run_all(interpreter, family, PLAIN)
    finally:
        batch_of(interpreter).ahead = False
    assert {ahead for _, ahead in seen} == {False}


def test_many_rows_wait_for_no_drafts(folder, family, seen):
    with Interpreter.load(str(folder), max_rows=20) as interpreter:
        batch_of(interpreter).ahead = True
        run_all(interpreter, family, Options(max_tokens=12), 20)
    many: Sequence[bool] = [ahead for num, ahead in seen if num > 16]
    assert many
    assert all(many)


def test_a_path_that_is_longer_than_a_block_is_fed_several_tokens_at_once(interpreter, family):
    long = 'zqxjkvw"' * 15  # beyond the first 128 tokens, whatever comes before it
    program = replace(tiny.program(family, 1), output=Labels((f"{long}a", f"{long}b")))
    results = [interpreter.run(program, text) for text in TEXTS]
    assert {result.text for result in results} <= set(program.output.labels)
    assert all(result.num_steps < result.output_tokens / 2 for result in results)


def test_a_program_that_fails_when_it_joins_fails_alone(interpreter, family, monkeypatch):
    good, bad = tiny.program(family, 1), tiny.program(family, 2)
    expected = [interpreter.run(good, text, PLAIN).text for text in TEXTS]
    interpreter.run(bad, "picnic", PLAIN)  # its prefix is held
    bank = inside(interpreter, lambda running: running.bank)
    use = bank.use

    def refuse(programs):
        if bad in programs:
            raise RuntimeError("out of memory")
        use(programs)

    monkeypatch.setattr(bank, "use", refuse)
    programs = [good, bad, good, good, bad, good, good]
    texts = iter(TEXTS)
    calls = [(p, next(texts) if p is good else "picnic", PLAIN) for p in programs]
    futures = inside(interpreter, lambda _: [interpreter.submit(*call) for call in calls])
    for program, future in zip(programs, futures, strict=True):
        if program is bad:
            assert str(future.exception(60)) == "out of memory"
    said = [f.result(60).text for p, f in zip(programs, futures, strict=True) if p is good]
    assert said == expected
