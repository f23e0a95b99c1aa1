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
from dataclasses import dataclass, field
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ...cases import Case, check_cases
from ...errors import InputTooLong
from ...program import Template
from ..models.load import Base
from .kv import KV

_BATCH = 16
_TARGETS = 256  # scored at a time: each has a score for every token of the vocabulary


class RowScore(NamedTuple):
    """A row's mean loss per token in nats, and what greedy decoding says: its output's tokens.

    They end with the first that is not the output's; `right` says that there is none.
    """

    loss: float
    greedy: list[int]
    right: bool


@dataclass(frozen=True)
class Score:
    """Mean loss per output token in nats, and the share of rows that are right to the token."""

    loss: float
    accuracy: float
    rows: Sequence[RowScore] = field(default=(), repr=False, compare=False)


class Targets(NamedTuple):
    """Rows, and for every target the row and position whose hidden state predicts it."""

    tokens: mx.array  # (B, T)
    rows: mx.array  # (N,)
    positions: mx.array  # (N,)
    targets: mx.array  # (N,)


class Encoded(NamedTuple):
    """A row in tokens: input and the template after it, output and its end."""

    input: list[int]
    output: list[int]


def encode_cases(base: Base, template: Template, cases: Sequence[Case]) -> list[Encoded]:
    """Tokenize rows; InputTooLong for one that exceeds the window, OptionError for no text.

    The error names the row: by its line in the file it came from, or else its place in `cases`.
    """
    check_cases(cases)
    encode = base.tokenizer.encode
    num_prefix = len(encode(template.prefix, control=True))
    rows = []
    for number, case in enumerate(cases, 1):
        before = base.tokenizer.encode_input(case.input, template.suffix)
        row = Encoded(before, [*encode(case.output.strip()), base.end])
        num = len(row.input) + len(row.output)
        if num_prefix + num > base.window:
            raise InputTooLong(
                f"{case.name(number)}: {num_prefix} prefix + {num} tokens of its input and output "
                f"exceed the window of {base.window}"
            )
        rows.append(row)
    return rows


def make_targets(base: Base, template: Template, cases: Sequence[Case]) -> Targets:
    """Tokenize rows and lay them side by side; errors are those of `encode_cases`."""
    return _pad(encode_cases(base, template, cases))


def _pad(rows: Sequence[Encoded]) -> Targets:
    tokens = np.zeros((len(rows), max(len(i) + len(o) for i, o in rows)), np.int32)
    places: list[tuple[int, int, int]] = []
    for row, (before, output) in enumerate(rows):
        tokens[row, : len(before) + len(output)] = before + output
        places += [(row, len(before) - 1 + i, target) for i, target in enumerate(output)]
    return Targets(mx.array(tokens), *(mx.array(column) for column in zip(*places, strict=True)))


def prefix_kv(base: Base, template: Template) -> KV:
    """Continue nothing by the template's prefix, with the adapter attached now; all is lazy."""
    kv = KV(base.model.num_layers)
    prefix = base.tokenizer.encode(template.prefix, control=True)
    if prefix:
        base.model.hidden(mx.array([prefix]), kv)
    return kv


def target_states(base: Base, kv: KV, batch: Targets) -> mx.array:
    """Return the states (N, H) that predict the targets, after the prefix in `kv`."""
    hidden = base.model.hidden(batch.tokens, kv.repeated(batch.tokens.shape[0]))
    return hidden[batch.rows, batch.positions]


def target_losses(base: Base, states: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """Return each target's cross entropy in nats (N,), and the token that is most likely (N,)."""
    logits = base.model.logits(states).astype(mx.float32)  # (N, V)
    return nn.losses.cross_entropy(logits, targets), mx.argmax(logits, axis=-1)


def score(base: Base, template: Template, cases: Sequence[Case]) -> Score:
    """Return loss and exact matches over cases, with the adapter attached now."""
    kv = prefix_kv(base, template)
    mx.eval(kv.arrays)
    encoded = encode_cases(base, template, cases)
    order = sorted(range(len(encoded)), key=lambda i: sum(map(len, encoded[i])))
    found: dict[int, RowScore] = {}
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        rows = [encoded[place] for place in places]
        found |= zip(places, _score_rows(base, kv, rows), strict=True)
    scores = [found[place] for place in range(len(encoded))]
    sizes = [len(row.output) for row in encoded]
    loss = sum(one.loss * size for one, size in zip(scores, sizes, strict=True)) / sum(sizes)
    return Score(loss, sum(one.right for one in scores) / len(scores), scores)


def _score_rows(base: Base, kv: KV, rows: Sequence[Encoded]) -> list[RowScore]:
    batch = _pad(rows)
    states = target_states(base, kv, batch)
    mx.eval(states)
    losses, likely = list[float](), list[int]()
    for first in range(0, batch.targets.size, _TARGETS):
        targets = batch.targets[first : first + _TARGETS]
        each, best = target_losses(base, states[first : first + _TARGETS], targets)
        losses += np.array(each).tolist()
        likely += np.array(best).tolist()
    scores, start = list[RowScore](), 0
    for row in rows:
        end = start + len(row.output)
        said = likely[start:end]
        same = [mine == right for mine, right in zip(said, row.output, strict=True)]
        greedy = said if all(same) else said[: same.index(False) + 1]
        scores.append(RowScore(sum(losses[start:end]) / len(said), greedy, all(same)))
        start = end
    return scores
