"""`paw-mlx bench compile`: seconds and peak bytes of every phase, over a list of specs.

Specs are compiled as `paw-mlx compile` compiles many: they go through a phase together, and
each is charged its share of the phase's seconds. The first one also pays for loading what
writes pseudo-programs. A phase that was not run (its pseudo-program was given) has no figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from paw_mlx.compiler.compilation import Compilation
from paw_mlx.compiler.pipeline import Compiler
from paw_mlx.progress import Progress, quiet

_SHORT = {"pseudo_program": "pseudo"}
_SPEC_CHARACTERS = 60
_HASH_CHARACTERS = 6


def run(
    compiler: Compiler, compilations: Sequence[Compilation], progress: Progress = quiet
) -> Iterator[dict[str, Any]]:
    """Compile them all; yield a row for each, in order, as they come."""
    for number, done in enumerate(compiler.compile_all(compilations), 1):
        done.program = None  # an adapter is large, and there may be hundreds
        made = row(done)
        progress(f"{number}/{len(compilations)}: {made['total_s']:.1f} s, {made['spec']}")
        yield made


def row(done: Compilation) -> dict[str, Any]:
    """Return a compilation's seconds and peak bytes by phase; `error` if it failed."""
    costs = {_SHORT.get(phase, phase): c for phase, c in done.costs.items() if c.peak_bytes}
    made: dict[str, Any] = {"spec": _line(done.spec)}
    made |= {f"{phase}_s": cost.seconds for phase, cost in costs.items()}
    made |= {f"{phase}_peak_bytes": cost.peak_bytes for phase, cost in costs.items()}
    made["total_s"] = sum(cost.seconds for cost in done.costs.values())
    return made | ({"error": str(done.error)} if done.error else {})


def _line(spec: str) -> str:
    """A spec on one line: of a long one the beginning, and a hash that tells it from others."""
    text = " ".join(spec.split())
    if len(text) <= _SPEC_CHARACTERS:
        return text
    digest = hashlib.sha256(spec.encode()).hexdigest()[:_HASH_CHARACTERS]
    return f"{text[: _SPEC_CHARACTERS - _HASH_CHARACTERS - 2]}… {digest}"
