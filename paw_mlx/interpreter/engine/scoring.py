"""How likely right outputs are, in batches and without decoding.

Every row continues the same prefix, so it is evaluated once and its keys and values are
seen by all rows. A row counts as right if each token of its output, its end included, is the
best one after those before it: then greedy decoding says just that. (It may also spell the
same text in other tokens; that does not count here.)

    tokens   (B, T)   input + template after it + output + end, padded on the right
    targets  (N,)     the output tokens and ends of all rows; hidden states (N, H) give them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...cases import Case
from ...errors import InputTooLong
from ...program import Template
from ..models.load import Base
from .kv import KV

_BATCH = 16


@dataclass(frozen=True)
class Score:
    """Mean loss per output token in nats, and the share of rows that are right to the token."""

    loss: float
    accuracy: float


class Batch(NamedTuple):
    """Rows, and for every target the row and position whose hidden state predicts it."""

    tokens: mx.array  # (B, T)
    rows: mx.array  # (N,)
    positions: mx.array  # (N,)
    targets: mx.array  # (N,)


def make_batch(base: Base, template: Template, cases: Sequence[Case]) -> Batch:
    """Tokenize rows; InputTooLong if one exceeds the window."""
    encode = base.tokenizer.encode
    prefix = encode(template.prefix, control=True)
    inputs = [base.tokenizer.encode_input(case.input, template.suffix) for case in cases]
    outputs = [[*encode(case.output.strip()), base.end] for case in cases]
    width = max(len(i) + len(o) for i, o in zip(inputs, outputs, strict=True))
    if len(prefix) + width > base.window:
        raise InputTooLong(
            f"{len(prefix)} prefix + {width} tokens of the longest case "
            f"exceed the window of {base.window}"
        )
    tokens = np.zeros((len(cases), width), np.int32)
    places: list[tuple[int, int, int]] = []
    for row, (before, output) in enumerate(zip(inputs, outputs, strict=True)):
        tokens[row, : len(before) + len(output)] = before + output
        places += [(row, len(before) - 1 + i, target) for i, target in enumerate(output)]
    return Batch(mx.array(tokens), *(mx.array(column) for column in zip(*places, strict=True)))


def prefix_kv(base: Base, template: Template) -> KV:
    """Continue nothing by the template's prefix, with the adapter attached now; all is lazy."""
    kv = KV(base.model.num_layers)
    prefix = base.tokenizer.encode(template.prefix, control=True)
    if prefix:
        base.model.hidden(mx.array([prefix]), kv)
    return kv


def target_logits(base: Base, kv: KV, batch: Batch) -> mx.array:
    """Return scores (N, V), in float32, at every target's place, after the prefix in `kv`."""
    hidden = base.model.hidden(batch.tokens, kv.repeated(batch.tokens.shape[0]))
    return base.model.logits(hidden[batch.rows, batch.positions]).astype(mx.float32)


def score(base: Base, template: Template, cases: Sequence[Case]) -> Score:
    """Return loss and exact matches over cases, with the adapter attached now."""
    loss, tokens, exact = 0.0, 0, 0
    kv = prefix_kv(base, template)
    mx.eval(kv.arrays)
    ordered = sorted(cases, key=lambda case: len(case.input) + len(case.output))
    for start in range(0, len(ordered), _BATCH):
        batch = make_batch(base, template, ordered[start : start + _BATCH])
        logits = target_logits(base, kv, batch)
        losses = nn.losses.cross_entropy(logits, batch.targets)
        wrong = np.array(batch.rows)[np.array(mx.argmax(logits, axis=-1) != batch.targets)]
        loss, tokens = loss + float(losses.sum()), tokens + losses.size
        exact += batch.tokens.shape[0] - len(set(wrong.tolist()))
    return Score(loss / tokens, exact / len(cases))
