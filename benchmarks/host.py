"""What building a decoded token's graph costs the host: mlx-lm's bare base beside ours.

    python -m paw_mlx.benchmarks.host [--json]

Python builds a step while the GPU runs the one before; on a fast chip that takes longer than the
step itself. So it is measured alone: a Qwen3 of 28 layers with tiny widths, each of MLX's fast
operations one node as on a GPU, a step built and never evaluated. The kinds take turns, and of
each the tenth percentile counts, since what comes in between only ever adds. The ratios carry
over to other machines; the milliseconds are this one's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click
import mlx.core as mx
import numpy as np

from paw_mlx.benchmarks import kernels
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.interpreter.adapters.parallel import fuse
from paw_mlx.interpreter.models import make_model
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

NARROW = kernels.QWEN3 | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 512,
}
_RANK, _ROWS = 32, 8
_TURNS, _PERCENTILE = 120, 10
_LABELS = {
    "mlx_lm_base_ms": "mlx-lm, base",
    "base_ms": "paw-mlx, base",
    "program_ms": "paw-mlx, one program",
    "mixed_ms": f"paw-mlx, a batch of {_ROWS} that mixes programs",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(as_json: bool) -> None:
    """Measure what building a step costs the host."""
    found = measure()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, label in _LABELS.items():
        ratio = found[name] / found["mlx_lm_base_ms"]
        click.echo(f"{label:<48}{found[name]:>8.3f} ms{ratio:>8.2f} x")


def measure(turns: int = _TURNS) -> dict[str, float]:
    """Return the milliseconds that each kind of step takes to build, in turn with the others."""
    with kernels.as_on_gpu():
        kinds = {"mlx_lm_base_ms": kernels.their_step(NARROW)[1]} | _our_kinds()
        seconds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(turns):
            for name, build in kinds.items():
                start = time.perf_counter()
                built = build()
                seconds[name].append(time.perf_counter() - start)
                del built
    return {name: 1e3 * float(np.percentile(all_, _PERCENTILE)) for name, all_ in seconds.items()}


def _our_kinds() -> dict[str, Callable[[], mx.array]]:
    """Return what builds each kind of our steps; each has a model of its own, as bases do."""
    profile = Profile.from_config(NARROW)
    one, other = (
        Program(Template("", ""), synthetic.adapter(profile, _RANK), profile.name) for _ in range(2)
    )
    bare = Program(Template("", ""), None, profile.name)

    def build(programs: list[Program]) -> Callable[[], mx.array]:
        model: Any = make_model(NARROW)
        synthetic.fill(model, kernels.BITS, mx.bfloat16)
        bank = kernels.make_bank(fuse(model, profile))
        return kernels.our_step(model, bank, NARROW, programs)

    return {
        "base_ms": build([bare]),
        "program_ms": build([one]),
        "mixed_ms": build([one, other] * (_ROWS // 2)),
    }


if __name__ == "__main__":
    main()
