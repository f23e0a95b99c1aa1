"""A spec on its way through the compiler, and what each phase of it cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from ..errors import OptionError, PawError
from ..output import TEXT, Output
from ..program import Program
from ..spec_output import labels_in_spec
from .wordings import PLAIN, Draw

PHASES = ("pseudo_program", "encode", "map", "calibrate")


@dataclass
class Cost:
    """What a phase took: one program's share of the seconds, and MLX's peak memory."""

    seconds: float = 0.0
    peak_bytes: int = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what the block takes, also one that fails."""
        mx.clear_cache()
        mx.reset_peak_memory()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
            self.peak_bytes = max(self.peak_bytes, mx.get_peak_memory())


@dataclass
class Compilation:
    """A spec on its way through the phases; `program` or `error` is set at the end.

    `origin` says whose the pseudo-program is: `given`, `written` by the pseudo-compiler, as `draw`
    says, or written and then `edited`. `output` is the type of the program's outputs (None: the
    labels that the spec names, or any text). `tokens` and `hidden` are what one phase leaves to the
    next.
    OptionError for an empty spec.
    """

    spec: str
    pseudo_program: str | None = None
    origin: str = ""
    draw: Draw = PLAIN
    output: Output | None = None
    tokens: list[int] = field(default_factory=list, repr=False)
    hidden: np.ndarray | None = field(default=None, repr=False)  # (L, P, H)
    program: Program | None = None
    error: PawError | None = None
    costs: dict[str, Cost] = field(default_factory=lambda: {phase: Cost() for phase in PHASES})

    def __post_init__(self) -> None:
        self.spec = self.spec.strip()
        if not self.spec:
            raise OptionError("the spec is empty")
        self.output = self.output or labels_in_spec(self.spec) or TEXT
        self.origin = self.origin or ("given" if self.pseudo_program else "written")
