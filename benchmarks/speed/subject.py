"""What is measured, each behind the same methods, and what every engine is asked.

    load()                                      once, first
    prefill_decode(num_prompt, num_decode, seed)
    first_token(warm)    calls(num, at_once, max_tokens)    outputs(texts)    memory()

`prefill_decode` is what mlx_lm.benchmark does: random ids, no end of output, greedy, the
prompt's seconds up to the first token, and tokens decoded behind the prompt (llama-bench's tg
begins with an empty context). One difference: n tokens take n - 1 steps after the first, and
mlx_lm.benchmark divides n by their time; so its figure is n / (n - 1) of ours.

All engines get the same ids and the same favours: what every prompt begins with is evaluated
once and kept, greedy decoding, batches. `calls` are equal work: outputs of exactly `max_tokens`
tokens, whatever ends one otherwise, without drafts. Seconds are wall time, as a caller sees
them, tokenizing included; loading reads files that the system may have cached.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from paw_mlx.machine.memory import footprint
from paw_mlx.runner import DEFAULT_MAX_TOKENS

_SUBJECTS = (
    "server down", "lunch on Friday", "invoice overdue", "new logo", "password reset",
    "disk full", "team picnic", "contract to sign", "weekly digest", "build broken",
)  # fmt: skip
_PLACES = ("in Oslo", "in Berlin", "at work", "upstairs", "in the lab")


@dataclass(frozen=True)
class Plan:
    """How much is measured: tokens, rounds, the most tokens of an output."""

    num_prompt: int = 512
    num_decode: int = 128
    warmups: int = 2
    rounds: int = 5
    max_tokens: int = 8
    seed: int = 0

    @property
    def shape(self) -> dict[str, int]:
        """What `prefill_decode` and `expected` are asked for."""
        return {"num_prompt": self.num_prompt, "num_decode": self.num_decode}


class Asked(NamedTuple):
    """How outputs are made: `max_tokens` each, or fewer where something `ends` one; `at_once` in
    flight; unless `warm`, what prompts begin with is evaluated anew."""

    max_tokens: int
    at_once: int = 1
    ends: bool = False
    warm: bool = True


class Timed(NamedTuple):
    """Tokens, the seconds up to the first, and from there to the last."""

    tokens: list[int]
    prefill_s: float
    decode_s: float


def inputs(width: int = 0) -> Iterator[str]:
    """Make short inputs, all different, of at least `width` characters."""
    for number, place, subject in product(range(1_000_000), _PLACES, _SUBJECTS):
        yield f"{subject} {place} {number}".ljust(width)


def take(steps: Iterable[Any], stop: Container[int], max_tokens: int) -> Timed:
    """Take an engine's tokens as it makes them: at most so many, up to one of `stop`."""
    tokens: list[int] = []
    start = first = time.perf_counter()
    for token in steps:
        first = first if tokens else time.perf_counter()
        if token in stop:
            break
        tokens.append(int(token))
        if len(tokens) == max_tokens:
            break
    return Timed(tokens, first - start, time.perf_counter() - first)


class Subject:
    """A model on an engine; the engine's Python package is `package`."""

    engine = package = "paw-mlx"
    vocab: int
    _load_peak = 0

    def __init__(self, width: int = 0) -> None:
        self._inputs = inputs(width)

    def load(self) -> dict[str, Any]:
        """Read the model; say its form. NotFound or FormatError."""
        raise NotImplementedError

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Time a random prompt, and the tokens after the first one behind it."""
        ids = np.random.default_rng(seed).integers(0, self.vocab, num_prompt)
        found = self.decode(ids.tolist(), num_decode)
        assert len(found.tokens) == num_decode
        return {"prefill_s": found.prefill_s, "decode_s": found.decode_s}

    def first_token(self, warm: bool) -> dict[str, float]:
        """Time a first token, what prompts begin with evaluated anew or, `warm`, kept."""
        text = next(self._inputs)
        self.make_ready(warm)
        start = time.perf_counter()
        self.complete([text], Asked(1, ends=True, warm=warm))
        return {"seconds": time.perf_counter() - start}

    def calls(self, num: int, at_once: int, max_tokens: int) -> dict[str, float]:
        """Time so many calls, `at_once` in flight; `together` says how many of these decode
        together, which are fewer only where memory has no room for more."""
        texts = list(islice(self._inputs, num))
        self.make_ready(warm=True)
        together = self.make_room(texts, at_once, max_tokens)
        start = time.perf_counter()
        outputs = self.complete(texts, Asked(max_tokens, at_once))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "num": len(outputs), "together": together}

    def outputs(self, texts: Sequence[str], max_tokens: int = DEFAULT_MAX_TOKENS) -> list[str]:
        """Return the outputs, stripped."""
        return [text.strip() for text in self.complete(texts, Asked(max_tokens, ends=True))]

    def memory(self) -> dict[str, int | None]:
        """Return bytes: MLX's now, at most (loading or not), kept; and the process's peak."""
        run_peak = mx.get_peak_memory()
        return {
            "active_bytes": mx.get_active_memory(),
            "peak_bytes": max(run_peak, self._load_peak),
            "run_peak_bytes": run_peak,
            "cache_bytes": mx.get_cache_memory(),
            "footprint_peak_bytes": footprint()[1],
        }

    def decode(self, ids: list[int], num: int) -> Timed:
        """Decode so many tokens behind a prompt's ids, whatever ends an output."""
        raise NotImplementedError

    def complete(self, texts: Sequence[str], asked: Asked) -> list[str]:
        """Return the outputs for some inputs."""
        raise NotImplementedError

    def make_ready(self, warm: bool) -> None:
        """Do what is not timed: wait, and evaluate what prompts begin with if it is `warm`."""

    def make_room(self, texts: Sequence[str], at_once: int, max_tokens: int) -> int:
        """Let `at_once` calls decode together; return how many will."""
        return at_once

    def end_loading(self) -> None:
        """Count peaks anew from here."""
        self._load_peak = mx.get_peak_memory()
        mx.clear_cache()
        mx.reset_peak_memory()
