"""What every engine is asked: the same inputs and ids; and how its tokens and memory are taken."""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterator
from itertools import product
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from paw_mlx.benchmarks.memory import footprint
from paw_mlx.benchmarks.sizes import Form, Sizes
from paw_mlx.benchmarks.synthetic import INPUT_TOKENS
from paw_mlx.interpreter.elementwise import on_gpu

WIDTH = INPUT_TOKENS - 1  # characters of an input: a synthetic model's are tokens
_SUBJECTS = (
    "server down", "lunch on Friday", "invoice overdue", "new logo", "password reset",
    "disk full", "team picnic", "contract to sign", "weekly digest", "build broken",
)  # fmt: skip
_PLACES = ("in Oslo", "in Berlin", "at work", "upstairs", "in the lab")


def inputs(width: int = 0) -> Iterator[str]:
    """Short inputs, all different, of at least `width` characters."""
    for number, place, subject in product(range(1_000_000), _PLACES, _SUBJECTS):
        yield f"{subject} {place} {number}".ljust(width)


def random_ids(num: int, vocab: int, seed: int) -> list[int]:
    """The ids that both engines get."""
    return [int(i) for i in np.random.default_rng(seed).integers(0, vocab, num)]


class Generated(NamedTuple):
    """Tokens, and when the first one was begun, the first one was there, and the last."""

    start: float
    first: float
    end: float
    tokens: list[int]

    @property
    def seconds(self) -> dict[str, float]:
        """As `prefill_decode` returns them."""
        return {"prefill_s": self.first - self.start, "decode_s": self.end - self.first}


def taken(start: float, steps: Iterator[Any], stop: Container[int], max_tokens: int) -> Generated:
    """Take an engine's tokens as it makes them: at most so many, up to one of `stop`."""
    tokens: list[int] = []
    first = start
    for token in steps:
        first = first if tokens else time.perf_counter()
        if token in stop:
            break
        tokens.append(int(token))
        if len(tokens) == max_tokens:
            break
    return Generated(start, first, time.perf_counter(), tokens)


class Memory:
    """MLX's peaks, while loading and since."""

    _load_peak = 0

    def loaded(self) -> None:
        self._load_peak = mx.get_peak_memory()
        mx.clear_cache()
        mx.reset_peak_memory()

    def memory(self) -> dict[str, int | None]:
        """Bytes: MLX's now, at most (loading or not), freed and kept; and the process's peak."""
        run_peak = mx.get_peak_memory()
        return {
            "active_bytes": mx.get_active_memory(),
            "peak_bytes": max(run_peak, self._load_peak),
            "run_peak_bytes": run_peak,
            "cache_bytes": mx.get_cache_memory(),
            "footprint_peak_bytes": footprint()[1],
        }


def held(form: str, dtype: mx.Dtype) -> Form:
    """A form as `Base.form` words it, for arithmetic: the first packing stands for all."""
    packing = re.search(r"(\d+)-bit g(\d+)", form)
    bits, group_size = (int(packing[1]), int(packing[2])) if packing else (None, 64)
    return Form(bits, dtype.size, group_size, on_gpu())


def read_kv(sizes: Sizes, num_prompt: int, num_decode: int) -> int:
    """Keys and values that a token decoded behind a prompt reads, at the middle of them."""
    return (num_prompt + num_decode // 2) * sizes.kv_bytes
