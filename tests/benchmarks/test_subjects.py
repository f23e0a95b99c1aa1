"""What is measured: equal work for every engine, and a clock that hears all of it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mlx.core as mx
import pytest
import tiny
from chat_models import random_model

from paw_mlx import formats, machine
from paw_mlx.benchmarks.speed import paw as paws
from paw_mlx.benchmarks.speed.chat import MlxLm
from paw_mlx.benchmarks.speed.paw import Paw
from paw_mlx.benchmarks.speed.sizes import SLACK_BYTES
from paw_mlx.benchmarks.speed.subject import Asked
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.adapters import bank
from paw_mlx.interpreter.engine.admission import Admission
from paw_mlx.interpreter.engine.call import Call


def end_everywhere(base: Path) -> list[int]:
    """Let every token end a base's output; return them."""
    every = list(range(tiny.config("qwen3")["vocab_size"]))
    config = json.loads(tiny.changed("qwen3", eos_token_id=every))
    (base / "config.json").write_text(json.dumps(config))
    return every


def test_random_ids_are_decoded_to_their_number_whatever_ends_an_output(tmp_path):
    base = tiny.write_base(tmp_path / "base", "qwen3")
    every = end_everywhere(base)
    paw = Paw(str(base))
    paw.load()
    assert paw.prefill_decode(20, 12, 0)["decode_s"] > 0
    chat = MlxLm(str(random_model(tmp_path / "chat", eos_token_id=every)))
    chat.load()
    assert chat.prefill_decode(20, 12, 0)["decode_s"] > 0
    assert chat.outputs(["a"]) == [""]


def test_both_engines_get_the_same_model_and_the_same_prompt():
    paw, chat = Paw(made_up="tiny", bare=True), MlxLm(made_up="tiny")
    for subject in (paw, chat):
        subject.load()
    texts = ["the disk is full", "spring picnic on Friday", "a"]
    ours, theirs = (subject.outputs(texts, max_tokens=40) for subject in (paw, chat))
    assert ours == theirs
    assert len(set(ours)) > 1
    alone = [chat.complete([text], Asked(40, ends=True))[0].strip() for text in texts]
    assert alone == theirs


def test_cold_evaluates_the_prefix_and_warm_does_not():
    for subject in (Paw(made_up="tiny"), MlxLm(made_up="tiny")):
        subject.load()
        subject.first_token(False)
        cold, warm = (
            min(subject.first_token(kind)["seconds"] for _ in range(5)) for kind in (False, True)
        )
        assert warm < cold


def test_calls_are_as_many_as_asked_for_and_all_differ():
    paw = Paw(made_up="tiny")
    paw.load()
    seen = heard(paw)
    assert [paw.calls(num, at_once, 4)["num"] for num, at_once in ((3, 1), (12, 4))] == [3, 12]
    assert len(seen) == len({text for text, _ in seen}) == 15


def heard(paw: Paw) -> list:
    """What a subject hands to its interpreter, as it comes: texts, and futures of results."""
    seen: list = []
    submit = paw.interpreter.submit

    def listening(program, text, options=None):
        future = submit(program, text, options)
        seen.append((text, future))
        return future

    paw.interpreter.submit = listening  # type: ignore[method-assign]
    return seen


def test_calls_are_equal_work_whatever_ends_an_output(tmp_path):
    base = tiny.write_base(tmp_path / "base", "qwen3")
    every = end_everywhere(base)
    formats.save(tiny.program("qwen3"), tmp_path / "p.paw", "f32", profile=tiny.profile("qwen3"))
    paw = Paw(str(base), program=str(tmp_path / "p.paw"))
    paw.load()
    seen = heard(paw)
    paw.calls(2, 1, 5)
    paw.calls(2, 2, 5)
    results = [future.result() for _, future in seen]
    assert [(r.output_tokens, r.num_steps) for r in results] == [(5, 5)] * 4
    chat = MlxLm(str(random_model(tmp_path / "chat", eos_token_id=every)))
    chat.load()
    for at_once in (1, 2):
        assert all(chat.complete(["a", "b"], Asked(5, at_once)))
        assert not any(chat.complete(["a", "b"], Asked(5, at_once, ends=True)))


def test_the_clock_hears_the_tokenizer_and_waits_for_what_was_computed_ahead(monkeypatch):
    waited = []
    synchronize = mx.synchronize
    monkeypatch.setattr(mx, "synchronize", lambda *on: (waited.append(on), synchronize(*on)))
    for subject in (Paw(made_up="tiny"), MlxLm(made_up="tiny")):
        subject.load()
        subject.first_token(True)
        for call in (
            lambda subject=subject: subject.prefill_decode(16, 2, 0),
            lambda subject=subject: subject.first_token(False),
            lambda subject=subject: subject.calls(1, 1, 2),
        ):
            waited.clear()
            call()
            assert waited
    prompts = subject.prompts
    subject.prompts = prompts._replace(ids=lambda text: (time.sleep(0.2), prompts.ids(text))[1])
    for warm in (False, True):
        assert subject.first_token(warm)["seconds"] > 0.2


def test_a_round_after_another_program_times_no_adapter_made_ready(monkeypatch):
    paw = Paw(made_up="tiny")
    paw.load()
    paw.prefill_decode(20, 4, 0)
    before = paw.interpreter
    paw.calls(1, 1, 4)
    heated = []
    monkeypatch.setattr(bank, "heat", lambda *a, heat=bank.heat: (heated.append(a), heat(*a)))
    monkeypatch.setattr(Call, "succeed", counting(Call.succeed, heated))
    paw.prefill_decode(20, 4, 0)
    assert paw.interpreter is before
    assert [len(entry) for entry in heated] == [2, 1]  # made ready once, and then the call


def counting(succeed, seen):
    def told(call, result):
        seen.append((result,))
        succeed(call, result)

    return told


def test_an_interpreter_is_closed_before_another_shares_its_layers(tmp_path):
    base = tiny.write_base(tmp_path / "base", "llama")
    formats.save(tiny.program("llama"), tmp_path / "p.paw", "f32", profile=tiny.profile("llama"))
    paw = Paw(str(base), program=str(tmp_path / "p.paw"))
    paw.load()
    paw.prefill_decode(20, 4, 0)
    before = paw.interpreter
    got = paw.outputs(["the disk is full"], max_tokens=8)
    assert before.closed
    with Interpreter.load(str(base)) as interpreter:
        fn = interpreter.function(formats.load(tmp_path / "p.paw"))
        assert got == [fn("the disk is full", max_tokens=8)]


@pytest.fixture
def paw():
    """A subject on an engine whose own bound admits one row."""
    paw = Paw(made_up="tiny")
    paw.load()
    paw.prefill_decode(560, 4, 0)  # longer slots are left behind
    paw.interpreter._owner._batch.admission._max_bytes = lambda: 1  # no public way
    return paw


@pytest.fixture
def refused(monkeypatch):
    """Calls that the engine had no room for."""
    seen, fits = [], Admission._fits

    def told(rules, joining, rows):
        admitted = fits(rules, joining, rows)
        seen.extend([] if admitted else [len(rows) + len(joining)])
        return admitted

    monkeypatch.setattr(Admission, "_fits", told)
    return seen


def test_calls_at_once_decode_together(paw, refused):
    assert paw.calls(16, 8, 4)["together"] == 8
    assert not refused


def test_where_memory_has_no_room_fewer_decode_together(paw, refused, monkeypatch):
    row = paw.sizes.row_bytes(560 + 64)
    monkeypatch.setattr(paws.mx, "get_active_memory", lambda: 7)
    monkeypatch.setattr(machine, "limit_bytes", lambda: 4 * row - 1 + 7 + SLACK_BYTES)
    found = paw.calls(16, 8, 4)
    assert (found["num"], found["together"]) == (16, 3)
    assert refused
    monkeypatch.setattr(machine, "limit_bytes", lambda: None)
    assert paw.calls(8, 8, 4)["together"] == 8


def test_of_a_family_that_is_not_known_nothing_is_computed():
    chat = MlxLm(made_up="tiny")
    chat.load()
    assert chat.expected(32, 8)["token_bytes"]
    chat.config = chat.config | {"model_type": "qwen3_moe"}
    assert chat.expected(32, 8) == {"expected_peak_bytes": None, "token_bytes": None}
