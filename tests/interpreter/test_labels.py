"""Labels: how likely each is, beside a computation of every label alone, and rows around them."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
import tiny
from engine_room import batch_of, inside
from test_constraint import constrained

from paw_mlx import (
    AdapterMismatch,
    CallTimeout,
    InputTooLong,
    Interpreter,
    Labels,
    OptionError,
    Options,
    OutputError,
    Program,
    Regex,
)
from paw_mlx.adapter import Adapter
from paw_mlx.device import assume_gpu
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine import step
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import Base, load_base

INPUTS = ["the disk is full", "picnic on Friday", "0 1 0 1 0 1", "Grüße", "the server is down"]
APART = ("down", "full", "picnic", "?")
SHARED = ("the disk", "the disk is full", "the disk is down", "the server", "spring", "the")
MANY = tuple(f"{'the disk is ' * (n % 3)}{n}" for n in range(3000))
FAR = 'zqxjkvw"' * 15  # tokens that no tiny base says twice in a row


@pytest.fixture(scope="module")
def apart(folder) -> Base:
    """The same base, loaded for the expectation alone."""
    return load_base(folder)


def typed(family: str, labels: Sequence[str], seed: int = 1, **more: object) -> Program:
    return replace(tiny.program(family, seed), output=Labels(tuple(labels), **more))


def deciding(base: Base, labels: Sequence[str]) -> dict[str, int]:
    """How many tokens it takes until a label can be no other."""
    texts = [(*base.tokenizer.encode(label), base.end) for label in labels]
    begin = Counter(t[:n] for t in texts for n in range(1, len(t) + 1))
    sure = ([n for n in range(1, len(t) + 1) if begin[t[:n]] == 1] for t in texts)
    return {label: each[0] for label, each in zip(labels, sure, strict=True)}


def expected(base: Base, program: Program, text: str) -> dict[str, float]:
    """Each label's own log-probability, in nats, as far as its tokens are no other label's.

    Every label is read behind a prompt of its own; nothing of it is shared.
    """
    lora.attach(base.groups, lora.pairs(program.adapter, base.dtype))
    encode, labels = base.tokenizer.encode, program.output.labels
    prompt = encode(program.template.prefix, control=True)
    prompt += base.tokenizer.encode_input(text, program.template.suffix)
    texts = [(*encode(label), base.end) for label in labels]
    nums = deciding(base, labels)
    found, width = {}, max(map(len, texts))
    for start in range(0, len(texts), 500):
        some = texts[start : start + 500]
        read = mx.array([[*prompt, *text, *[0] * (width - len(text))] for text in some])
        hidden = base.model.hidden(read, KV(base.model.num_layers))[:, len(prompt) - 1 :]
        scores = np.array(base.model.logits(hidden).astype(mx.float32)).astype(float)
        shares = scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True)
        for label, text, share in zip(labels[start:], some, shares, strict=False):
            found[label] = sum(share[i, text[i]] for i in range(nums[label]))
    return found


def assert_as_expected(base: Base, program: Program, text: str, decision) -> None:
    log_p = expected(base, program, text)
    total = np.logaddexp.reduce([*log_p.values()])
    wanted = {label: math.exp(each - total) for label, each in log_p.items()}
    assert dict(decision.probabilities) == pytest.approx(wanted, abs=1e-4)
    assert decision.in_scope == pytest.approx(math.exp(total), abs=1e-4)
    assert decision.label == max(log_p, key=log_p.__getitem__)
    assert sum(decision.probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize("labels", [APART, SHARED], ids=["apart", "shared"])
def test_labels_are_as_likely_as_each_one_alone(interpreter, apart, family, labels):
    program = typed(family, labels)
    for text in INPUTS:
        result = interpreter.run(program, text)
        assert_as_expected(apart, program, text, result.decision)
        assert result.text == result.value == result.decision.label
        assert result.output_tokens == deciding(apart, labels)[result.text]
        assert result.finish_reason == "stop"


def test_labels_that_part_at_once_take_the_prompt_s_pass_alone(interpreter, family):
    assert {interpreter.run(typed(family, APART), text).num_steps for text in INPUTS} == {1}


def test_no_more_paths_are_walked_than_labels_share(interpreter, family):
    encode = interpreter.base.tokenizer.encode
    begin = Counter(tuple(encode(label)[:n]) for label in SHARED for n in range(1, 20))
    most = 1 + sum(1 for num in begin.values() if num > 1)  # the prompt, and each path
    assert 1 < max(interpreter.run(typed(family, SHARED), t).num_steps for t in INPUTS) <= most


def test_what_all_labels_share_is_fed_several_tokens_at_once(interpreter, apart, family):
    program = typed(family, [f"the disk is full of {end}" for end in ("spam", "mail")])
    num_shared = len(interpreter.base.tokenizer.encode("the disk is full of "))
    result = interpreter.run(program, INPUTS[0])
    assert result.num_steps < num_shared / 2 < num_shared <= result.output_tokens
    assert_as_expected(apart, program, INPUTS[0], result.decision)


def test_labels_too_unlikely_for_a_float_are_told_apart(interpreter, apart, family):
    program = typed(family, [FAR + end for end in "abc"])
    decision = interpreter.run(program, INPUTS[0]).decision
    assert max(expected(apart, program, INPUTS[0]).values()) < -400
    assert_as_expected(apart, program, INPUTS[0], decision)


@pytest.mark.slow
def test_thousands_of_labels(interpreter, apart, family):
    program = typed(family, MANY)
    decision = interpreter.run(program, INPUTS[0]).decision
    assert len(decision.probabilities) == 3000
    assert_as_expected(apart, program, INPUTS[0], decision)


@pytest.mark.slow
def test_rows_that_choose_leave_those_beside_them_alone(interpreter, apart, family, ahead):
    pytest.importorskip("llguidance")
    free, other = tiny.program(family, 2), typed(family, SHARED, 3)
    drawn = Options(max_tokens=30, temperature=0.7, seed=3)
    ruled = replace(tiny.program(family, 4), output=Regex("the (disk|server) is [a-z ]{9}"))
    free_ways = [(free, Options(max_tokens=30)), (free, drawn), (ruled, Options())]
    jobs = [(p, text, options) for text in INPUTS for p, options in free_ways]
    alone = [interpreter.run(*job).text for job in jobs]
    beside = [interpreter.submit(*job) for job in jobs]
    programs = [typed(family, APART), other, typed(family, SHARED), typed(family, MANY[:40])]
    choosing = [(p, t, interpreter.submit(p, t)) for t in INPUTS for p in programs]
    more = [interpreter.submit(*job) for job in jobs]
    rules = [constrained(interpreter, free, text) for text in INPUTS]
    for program, text, future in choosing:
        assert_as_expected(apart, program, text, future.result(60).decision)
    assert [f.result(60).text for f in beside] == alone == [f.result(60).text for f in more]
    assert len(set(alone)) > len(INPUTS)
    assert all(call.future.result(60).text for call in rules)


def test_rows_that_choose_move_to_the_places_of_those_that_leave(interpreter, apart, family):
    program = typed(family, [FAR + end for end in "abc"])
    few = [Options(max_tokens=num) for num in (2, 3, 4)]
    leaving = [interpreter.submit(tiny.program(family), INPUTS[0], options) for options in few]
    choosing = [(text, interpreter.submit(program, text)) for text in INPUTS]
    for text, future in choosing:
        assert_as_expected(apart, program, text, future.result(60).decision)
    assert [f.result().output_tokens for f in leaving] == [2, 3, 4]


def test_compiled_steps_decide_the_same(folder, apart, family, monkeypatch):
    monkeypatch.setattr(step, "PATIENCE", 2)
    programs = [typed(family, [FAR + end for end in "abc"]), typed(family, SHARED, 2)]
    free, options = tiny.program(family, 3), Options(max_tokens=40)
    with Interpreter.load(str(folder), max_rows=4) as plain:
        alone = [plain.run(free, text, options).text for text in INPUTS]
    with Interpreter.load(str(folder), max_rows=4) as compiled, assume_gpu():
        batch_of(compiled).ahead = True
        beside = [compiled.submit(free, text, options) for text in INPUTS]
        choosing = [(p, text, compiled.submit(p, text)) for text in INPUTS for p in programs]
        assert [future.result(60).text for future in beside] == alone
        for program, text, future in choosing:
            assert_as_expected(apart, program, text, future.result(60).decision)
        assert inside(compiled, lambda batch: len(batch._step._traces)) > 2


def test_an_unsure_choice_is_not_said(interpreter, family):
    program = typed(family, APART, threshold=0.999, otherwise="UNSURE")
    result = interpreter.run(program, INPUTS[0])
    assert (result.text, result.value, result.decision.abstained) == ("UNSURE", "UNSURE", True)
    assert result.decision.label in APART
    sure = interpreter.run(program, INPUTS[0], Options(threshold=0.0))
    assert sure.text == result.decision.label
    silent = interpreter.run(typed(family, APART, threshold=0.999), INPUTS[0])
    assert (silent.text, silent.value) == ("", None)


@pytest.mark.slow
def test_a_temperature_draws_labels_by_their_probability(interpreter, family):
    program = typed(family, SHARED)
    decisions = {text: interpreter.run(program, text).decision for text in INPUTS}
    text = min(INPUTS, key=lambda text: decisions[text].probability)  # where most may be drawn
    shares = np.array([*decisions[text].probabilities.values()])
    for temperature, num in ((1.0, 400), (3.0, 200)):
        options = [Options(temperature=temperature, seed=seed) for seed in range(num)]
        drawn = Counter(interpreter.run(program, text, each).text for each in options)
        weights = shares ** (1 / temperature)
        found = np.array([drawn[label] for label in SHARED]) / num
        assert np.abs(found - weights / weights.sum()).max() < 0.1
    coldest = Options(temperature=1e-300, seed=5)
    assert interpreter.run(program, text, coldest).text == decisions[text].label
    again = [interpreter.run(program, text, each).text for each in options[:30]]
    assert again == [interpreter.run(program, text, each).text for each in options[:30]]
    assert len({*again}) > 1


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.3, 2.0, 4.0])
def test_a_calibrated_temperature_looks_at_what_it_makes_likely(
    interpreter, apart, family, temperature
):
    plain, text = typed(family, MANY[:600]), INPUTS[0]
    result = interpreter.run(typed(family, MANY[:600], temperature=temperature), text)
    log_p = np.array([*expected(apart, plain, text).values()]) / temperature
    wanted = np.exp(log_p - np.logaddexp.reduce(log_p))
    assert [*result.decision.probabilities.values()] == pytest.approx(wanted, abs=2e-5)
    usual = interpreter.run(plain, text).num_steps
    drawn = interpreter.run(plain, text, Options(temperature=temperature, seed=1)).num_steps
    assert (drawn > usual) == (result.num_steps > usual) == (temperature > 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_priors_are_taken_from_labels_before_paths_are_left_out(
    interpreter, apart, family, temperature
):
    text, labels = INPUTS[0], MANY[:200]
    log_p = np.array([*expected(apart, typed(family, labels), text).values()])
    # The unlikeliest labels become the likeliest: no path to them may be passed over.
    priors = np.minimum(2 * log_p + np.random.default_rng(1).uniform(0, 4, len(labels)), 0)
    program = typed(family, labels, temperature=temperature, priors=tuple(priors.tolist()))
    decision = interpreter.run(program, text).decision
    weights = (log_p - priors) / temperature
    assert decision.label == labels[weights.argmax()] != labels[log_p.argmax()]
    wanted = np.exp(weights - np.logaddexp.reduce(weights))
    assert [*decision.probabilities.values()] == pytest.approx(wanted, abs=2e-5)


def test_a_stream_gives_the_label_whole(interpreter, family):
    pieces = interpreter.stream(typed(family, SHARED), INPUTS[0])
    (label,) = list(pieces)
    assert label == pieces.result.text in SHARED


def test_one_at_a_time_decides_the_same_a_token_a_step(folder, apart, family):
    with Interpreter.load(str(folder), invariant=True) as interpreter:
        for labels in (APART, SHARED, (FAR + "a", FAR + "b")):
            program = typed(family, labels)
            result = interpreter.run(program, INPUTS[2])
            assert_as_expected(apart, program, INPUTS[2], result.decision)
        assert result.num_steps == result.output_tokens  # widths are measured, and change bits


def test_numbers_that_overflow_fail_the_row_alone(interpreter, family):
    program = typed(family, SHARED, 3)
    sites = program.adapter.sites.items()
    broken = Adapter({site: replace(lora_, alpha=1e37) for site, lora_ in sites})
    failing = interpreter.submit(replace(program, adapter=broken), INPUTS[0])
    beside = [interpreter.submit(program, text) for text in INPUTS]
    with pytest.raises(AdapterMismatch, match="leave the range"):
        failing.result(60)
    assert {future.result(60).text for future in beside} <= set(SHARED)


@pytest.fixture
def broken(folder, family, tmp_path) -> Iterator[Interpreter]:
    """A base that has no numbers behind a `q`; where its weights are tied, of it neither."""
    broken, token = shutil.copytree(folder, tmp_path / "base"), tiny.tokenizer().encode("q").ids[0]
    tensors = mx.load(str(folder / "model.safetensors"))
    name = next(name for name in tensors if "embed_tokens" in name or "wte" in name)
    rows = np.array(tensors[name])
    rows[token] = np.nan
    mx.save_safetensors(str(broken / "model.safetensors"), {**tensors, name: mx.array(rows)})
    with Interpreter.load(str(broken), max_rows=8) as interpreter:
        yield interpreter


def test_labels_without_a_number_fail_their_rows_alone(broken, family):
    if not tiny.config(family).get("tie_word_embeddings", True):
        pytest.skip("every label has a number")
    futures = [broken.submit(typed(family, ("q", "down")), text) for text in INPUTS]
    for future in futures:
        with pytest.raises(OutputError, match="the program's numbers overflowed"):
            future.result(60)


def test_a_path_whose_numbers_overflow_fails_its_row_alone(broken, family):
    if tiny.config(family).get("tie_word_embeddings", True):
        pytest.skip("nothing has a number")
    good, bad = typed(family, SHARED), [typed(family, ("zqa", "zqb")), typed(family, ("qa", "qb"))]
    beside = [broken.submit(good, text) for text in INPUTS]
    failing = [broken.submit(program, text) for text in INPUTS for program in bad]
    free = broken.submit(tiny.program(family), INPUTS[0], Options(max_tokens=20))
    for future in failing:
        with pytest.raises(AdapterMismatch, match="leave the range"):
            future.result(60)
    again = [broken.submit(good, text) for text in INPUTS]  # in the slots of those that failed
    for one, other in zip(beside, again, strict=True):
        probabilities = dict(other.result(60).decision.probabilities)
        assert dict(one.result(60).decision.probabilities) == pytest.approx(probabilities, abs=1e-4)
    assert free.result(60).text


def test_labels_that_a_tokenizer_does_not_tell_apart_are_refused_at_once(folder, family, tmp_path):
    lower = shutil.copytree(folder, tmp_path / "base") / "tokenizer.json"
    record = json.loads(lower.read_text()) | {"normalizer": {"type": "Lowercase"}}
    lower.write_text(json.dumps(record))
    with (
        Interpreter.load(str(lower.parent)) as interpreter,
        pytest.raises(OptionError, match="'Down' and 'down' are the same to this base's tokenizer"),
    ):
        interpreter.function(tiny.program(family), labels=["full", "Down", "down"])


def test_labels_that_part_beyond_the_window_are_refused_at_once(interpreter, family):
    with pytest.raises(InputTooLong, match=r"tokens tell the label 'zqxjkvw.*window is 256"):
        interpreter.function(tiny.program(family), labels=[FAR * 3 + "a", FAR * 3 + "b"])
    assert interpreter.run(typed(family, [FAR * 3, "down"]), "x").num_steps == 1


def test_the_window_holds_the_longest_path(interpreter, family):
    program, text = typed(family, [FAR + "a", FAR + "b"]), "0" * 100
    with pytest.raises(InputTooLong, match=f"{len(FAR) + 1} output tokens exceed the window"):
        interpreter.run(program, "0" * 130)
    assert interpreter.run(program, text).text in program.output.labels
    assert interpreter.run(program, "0" * 999, Options(overflow="tail")).cut_tokens


def test_a_threshold_needs_labels(interpreter, family):
    with pytest.raises(OptionError, match="a threshold is for labels"):
        interpreter.run(tiny.program(family), "x", Options(threshold=0.5))


def test_a_long_search_runs_out_of_time_or_is_cancelled_alone(interpreter, family):
    program = typed(family, MANY)
    beside = interpreter.submit(typed(family, SHARED), INPUTS[1])
    late = interpreter.submit(program, INPUTS[0], Options(timeout_s=0.02))
    dropped = interpreter.submit(program, INPUTS[1])
    while not inside(interpreter, lambda batch: batch.rows):
        assert not dropped.done()
    assert dropped.cancel()
    with pytest.raises(CallTimeout):
        late.result(60)
    assert beside.result(60).text in SHARED
    assert interpreter.run(tiny.program(family), "x", Options(max_tokens=3)).num_steps
    assert not batch_of(interpreter).rows
