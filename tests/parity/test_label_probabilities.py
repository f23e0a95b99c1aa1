"""Probabilities of labels beside transformers' own log-softmax along each label's tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import tiny
from test_transformers import base, torch, with_peft  # noqa: F401  (a fixture)

from paw_mlx import Interpreter, Labels, formats

pytestmark = pytest.mark.filterwarnings("ignore")
INPUTS = ["the disk is full", "picnic on Friday", "Grüße", "the server is down"]
SETS = {
    "apart": ("down", "full", "picnic"),
    "shared beginnings": ("the disk", "the disk is full", "the disk is down", "the server", "the"),
}


def expected(model, tokenizer, end: int, prompt: list[int], labels) -> tuple[list[float], float]:
    texts = [[*tokenizer.encode(label), end] for label in labels]
    begin = Counter(tuple(t[:n]) for t in texts for n in range(1, len(t) + 1))
    found = []
    for tokens in texts:
        num = next(n for n in range(1, len(tokens) + 1) if begin[tuple(tokens[:n])] == 1)
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *tokens]])).logits[0].double()
        shares = logits.log_softmax(-1)[len(prompt) - 1 :]
        found.append(sum(shares[i, tokens[i]] for i in range(num)))
    shares = torch.stack(found)
    return shares.softmax(0).tolist(), shares.exp().sum().item()


@pytest.mark.parametrize("labels", SETS.values(), ids=SETS)
def test_labels_are_as_likely_as_transformers_says(base, labels, tmp_path):  # noqa: F811
    family, folder, model = base
    wrapped = with_peft(family, model, tmp_path / "peft")
    adapter = formats.load_adapter(tmp_path / "peft", tiny.profile(family))
    program = replace(tiny.program(family), adapter=adapter, output=Labels(labels))
    with Interpreter.load(str(folder)) as interpreter:
        tokenizer, end = interpreter.base.tokenizer, interpreter.base.end
        futures = [interpreter.submit(program, text) for text in INPUTS]
        for text, future in zip(INPUTS, futures, strict=True):
            decision = future.result(60).decision
            prompt = tokenizer.encode(program.template.prefix, control=True)
            prompt += tokenizer.encode_input(text, program.template.suffix)
            shares, mass = expected(wrapped, tokenizer, end, prompt, labels)
            assert list(decision.probabilities.values()) == pytest.approx(shares, abs=1e-4)
            assert decision.in_scope == pytest.approx(mass, abs=1e-4)
