"""Scoring without decoding: nothing is copied for every row, and long outputs fit in memory."""

from __future__ import annotations

import mlx.core as mx
import pytest
import tiny

from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.engine import scoring
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base


def test_a_prefix_is_not_copied_for_every_row():
    layer = mx.ones((1, 2, 1000, 32)), mx.ones((1, 2, 1000, 32))
    mx.eval(layer)
    before = tiny.active_bytes()
    rows = KV.of([layer]).repeated(64)
    mx.eval(rows.arrays)
    assert [array.shape for array in rows.arrays] == [(64, 2, 1000, 32)] * 2
    assert tiny.active_bytes() - before < layer[0].nbytes
    k, v = rows.update(0, *(mx.zeros((64, 2, 1, 32)) for _ in layer))
    assert (k.shape, float(v.sum())) == ((64, 2, 1001, 32), 64 * layer[0].size)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_outputs_scored_a_few_tokens_at_a_time_have_the_same_score(family, tmp_path, monkeypatch):
    base, program = load_base(tiny.write_base(tmp_path / "base", family)), tiny.program(family)
    lora.attach(base.groups, lora.pairs(program.adapter, base.dtype))
    cases = [Case(text, text) for text in ("", "disk full", "the picnic on Friday", "a" * 30)]
    whole = scoring.score(base, program.template, cases)
    monkeypatch.setattr(scoring, "_TARGETS", 3)
    few = scoring.score(base, program.template, cases)
    assert few.loss == pytest.approx(whole.loss, rel=1e-5)
    assert few.accuracy == whole.accuracy


def test_a_score_is_that_of_the_models_own_next_tokens(tmp_path):
    base, program = load_base(tiny.write_base(tmp_path / "base", "qwen3")), tiny.program("qwen3")
    lora.attach(base.groups, lora.pairs(program.adapter, base.dtype))
    cases = [Case("disk full", "a picnic"), Case("b", "on Friday")]
    losses = []
    for case in cases:
        encode, template = base.tokenizer.encode, program.template
        before = [
            *encode(template.prefix, control=True),
            *base.tokenizer.encode_input(case.input, template.suffix),
        ]
        output = [*encode(case.output), base.end]
        tokens = mx.array([[*before, *output]])
        kv = KV(base.model.num_layers)
        logits = base.model.logits(base.model.hidden(tokens, kv))[0].astype(mx.float32)
        logits = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        losses += [-float(logits[len(before) - 1 + i, t]) for i, t in enumerate(output)]
    found = scoring.score(base, program.template, cases)
    assert found.loss == pytest.approx(sum(losses) / len(losses), rel=1e-3)
    output = [*base.tokenizer.encode(cases[0].output), base.end]
    greedy = found.rows[0].greedy
    assert greedy[:-1] == output[: len(greedy) - 1]
    assert greedy[-1] != output[len(greedy) - 1]


def test_a_case_beyond_the_window_is_named_by_its_place_and_its_tokens(tmp_path):
    base, program = load_base(tiny.write_base(tmp_path / "base", "qwen3")), tiny.program("qwen3")
    encode, template = base.tokenizer.encode, program.template
    num_prefix = len(encode(template.prefix, control=True))
    assert num_prefix < len(encode(template.prefix))  # its control tokens are one each
    long = "0" * base.window
    num = len(base.tokenizer.encode_input(long, template.suffix)) + len([*encode("1"), base.end])
    said = rf"^row 2: {num_prefix} prefix \+ {num} tokens .* window of {base.window}$"
    with pytest.raises(InputTooLong, match=said):
        scoring.encode_cases(base, template, [Case("0", "1"), Case(long, "1")])
