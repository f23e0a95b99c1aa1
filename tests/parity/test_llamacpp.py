"""The demo's programs under llama.cpp: same base file, same adapter exported to GGUF.

Run by hand with `make llamacpp`. llama.cpp rounds activations to 8 bits, so the two may
part where the best two tokens nearly tie; every such place is printed, and none may be clear.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from paw_mlx import Interpreter, Program, formats, settings
from paw_mlx.cases import read_cases
from paw_mlx.interpreter.adapters.hot import heat
from paw_mlx.interpreter.engine.kv import KV

llama_cpp = pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.filterwarnings("ignore")

BASE = settings.data_dir() / "bases" / "smollm2-135m" / "SmolLM2-135M-Instruct.Q4_1.gguf"
EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = sorted(path.parent for path in EXAMPLES.glob("*/program.paw"))
INPUTS, MAX_TOKENS = 20, 48
NEAR = 0.5  # nats between the best two tokens, below which 8-bit activations may decide


@pytest.fixture(scope="module")
def interpreter() -> Any:
    if not BASE.exists():
        pytest.skip("the demo's base is not here: paw-mlx pull smollm2-135m")
    with Interpreter.load(str(BASE)) as loaded:
        yield loaded


def prompt(interpreter: Interpreter, program: Program, text: str) -> list[int]:
    tokenizer, template = interpreter.base.tokenizer, program.template
    prefix = tokenizer.encode(template.prefix, control=True)
    return prefix + tokenizer.encode_input(text, template.suffix)


def greedy(llm: Any, tokens: list[int], eos: frozenset[int]) -> list[int]:
    llm.reset()
    llm.eval(tokens)
    output: list[int] = []
    while len(output) < MAX_TOKENS:
        best = int(np.argmax(llm.scores[llm.n_tokens - 1]))
        output.append(best)
        if best in eos:
            break
        llm.eval([best])
    return output


def ours(interpreter: Interpreter, program: Program, tokens: list[int]) -> Any:
    """Greedy tokens, and at each the margin over the second best."""
    base, output, margins = interpreter.base, [], []
    kv = KV(base.model.num_layers)
    assert program.adapter is not None
    heat(base.groups, program.adapter)
    step = tokens
    while len(output) < MAX_TOKENS and not (output and output[-1] in base.eos):
        logits = base.model.logits(base.model.hidden(mx.array([step]), kv)[0, -1])
        best = np.sort(np.array(logits))[-2:]
        step = [int(mx.argmax(logits))]
        output += step
        margins.append(float(best[1] - best[0]))
    return output, margins


@pytest.mark.parametrize("folder", PROGRAMS, ids=lambda folder: folder.name)
def test_greedy_outputs_equal_llama_cpp_short_of_near_ties(folder, interpreter, tmp_path, capsys):
    program = formats.load(folder / "program.paw")
    assert program.adapter is not None
    adapter = tmp_path / "adapter.gguf"
    formats.save_adapter(program.adapter, adapter, "gguf", interpreter.profile)
    llm = llama_cpp.Llama(
        str(BASE), lora_path=str(adapter), n_ctx=1024, logits_all=True, verbose=False
    )
    ties = []
    for case in read_cases(folder / "test.jsonl")[:INPUTS]:
        tokens = prompt(interpreter, program, case.input)
        theirs = llm.tokenize(program.template.prefix.encode(), add_bos=False, special=True)
        rest = case.input + program.template.suffix  # one string, as the official SDK has it
        theirs += llm.tokenize(rest.encode(), add_bos=False, special=True)
        assert tokens == theirs
        expected = greedy(llm, tokens, interpreter.base.eos)
        got, margins = ours(interpreter, program, tokens)
        if got != expected:
            at = next(i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b)
            assert margins[at] < NEAR, (case.input, got, expected, margins[at])
            ties.append(f"{case.input!r}: token {at}, margin {margins[at]:.3f}")
    with capsys.disabled():
        print(
            f"\n{folder.name}: {INPUTS - len(ties)} of {INPUTS} equal; near-ties: {ties or 'none'}"
        )
