"""Ten thousand outputs, each of its type, and forced tokens in a real vocabulary."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from qwen3_tokenizer import fetch
from random_types import check, make_type

from paw_mlx import Interpreter, Options, OutputError, Schema
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine import grammar

CALLS = 3400  # of each family


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_outputs_have_their_type(family: str, tmp_path: Path) -> None:
    chance, program, whole = random.Random(family), tiny.program(family, None), 0
    types = [make_type(chance) for _ in range(CALLS // 10)]
    with Interpreter.load(str(tiny.write_base(tmp_path / family, family))) as interpreter:
        programs = [replace(program, output=output) for output in types]
        for start in range(0, CALLS, len(types)):
            options = Options(max_tokens=100, temperature=float(chance.random() < 0.5), seed=start)
            text = f"{chance.random()} {chance.choice(tiny.TEXT)}"
            calls = [interpreter.submit(typed, text, options) for typed in programs]
            for output, call in zip(types, calls, strict=True):
                if not isinstance(call.exception(600), OutputError):  # cut at its limit
                    check(output, call.result().text)
                    whole += 1
    assert whole > 0.9 * CALLS


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "the server is down", "Grüße, 日本 🙂", "a  b c", "1234"]
)
def test_forced_tokens_are_qwens_own(text: str, request: pytest.FixtureRequest) -> None:
    assert request.config.cache is not None
    folder = fetch(request.config.cache.mkdir("qwen3-tokenizer"))
    tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
    ends = tokenizer.ids(["<|im_end|>", "<|endoftext|>"])
    vocabulary = grammar.make_vocabulary(tokenizer, ends)
    made = grammar.Grammar(vocabulary, Schema.of({"const": text}), (", ", ": "))
    matcher = made.start()
    assert matcher.forced(99) == [*tokenizer.encode(json.dumps(text, ensure_ascii=False)), ends[0]]
    assert matcher.allowed([])[0, matcher.forced(1)[0]]
    matcher.push(matcher.forced(99))
