"""Kernels per decoded token: mlx-lm and paw-mlx, each bare and with a LoRA on every module.

    python -m paw_mlx.benchmarks.kernels [--json]

Both run Qwen3-0.6B's shapes in 4 bits, groups of 64, activations in bfloat16, a LoRA of rank
64; the weights are zeros, since no count depends on them. What is counted (`counting.py`) is
the step that decoding repeats: one token in, room in the KV cache, the best token out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import click
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from paw_mlx.adapter import Adapter, Lora, Matrix, row_bytes
from paw_mlx.benchmarks.counting import kernels
from paw_mlx.interpreter.bank import Bank
from paw_mlx.interpreter.kv import KV, Slots
from paw_mlx.interpreter.models import qwen3
from paw_mlx.interpreter.parallel import fuse
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
}
GROUP_SIZE, BITS = 64, 4
RANK, ROWS = 64, 8
_DTYPE = mx.bfloat16
_LENGTH, _ROOM = 40, 256  # tokens that the cache holds, and has room for


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(as_json: bool) -> None:
    """Count the kernels of a decoded token."""
    counts = theirs(QWEN3) | ours(QWEN3)
    if as_json:
        click.echo(json.dumps(counts))
        return
    for name, label in _LABELS.items():
        click.echo(f"{label:<64}{counts[name]:>12,}")


_LABELS = {
    "mlx_lm_base": "mlx-lm, base",
    "mlx_lm_lora": "mlx-lm, LoRA in bf16",
    "base": "paw-mlx, base",
    "program": "paw-mlx, one program",
    "program_dense": "paw-mlx, one program in f16 instead of Q4_0",
    "base_rows": f"paw-mlx, base, a batch of {ROWS}",
    "program_rows": f"paw-mlx, one program, a batch of {ROWS}",
    "mixed": f"paw-mlx, a batch of {ROWS} that mixes programs",
    "resident_bytes": "bytes that a resident program takes",
}


def ours(config: dict[str, Any], rank: int = RANK) -> dict[str, int]:
    """Kernels of each kind of step with the forms that the bank chooses, and a program's bytes."""
    model = qwen3.Model(qwen3.Args.from_config(config))
    blank(model)
    profile = Profile.from_config(config)
    groups = fuse(model, profile)

    def bank() -> Bank:
        return Bank(groups, _DTYPE, packed=True, max_bytes=1 << 30)

    bare = Program(Template("", ""), None, profile.name)
    one, other, dense = (
        Program(Template("", ""), blank_adapter(profile, rank, dtype), profile.name)
        for dtype in ("q4_0", "q4_0", "f16")
    )

    def count(programs: Sequence[Program]) -> int:
        bank().use(programs)
        return kernels(_our_step(model, config, len(programs))).total()

    return {
        "base": count([bare]),
        "program": count([one]),
        "base_rows": count([bare] * ROWS),
        "program_rows": count([one] * ROWS),
        "mixed": count([one, other] * (ROWS // 2)),
        "program_dense": count([dense]),
        "resident_bytes": bank().resident_bytes(one),
    }


def _our_step(model: Any, config: dict[str, Any], rows: int) -> Callable[[], mx.array]:
    """A step of rows at different positions, as the engine makes it."""
    held = mx.zeros((1, config["num_key_value_heads"], _LENGTH, config["head_dim"]), _DTYPE)
    slots, lengths = Slots(model.num_layers), [_LENGTH - row for row in range(rows)]
    slots.reserve(rows, _ROOM)
    for row in range(rows):
        slots.load(row, KV.of([(held, held)] * model.num_layers))
    mx.eval(slots.arrays)

    def step() -> mx.array:
        hidden = model.hidden(mx.array([[0]] * rows), slots.view(0, lengths))
        return mx.argmax(model.logits(hidden[:, -1]), axis=-1)

    return step


def theirs(config: dict[str, Any], rank: int = RANK) -> dict[str, int]:
    """mlx-lm's, bare and with its LoRA layers on all seven modules."""
    from mlx_lm.models import cache
    from mlx_lm.models import qwen3 as mlx_lm
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model = mlx_lm.Model(mlx_lm.ModelArgs.from_dict(config))
    blank(model)
    held = mx.zeros((1, config["num_key_value_heads"], _LENGTH, config["head_dim"]), _DTYPE)

    def step() -> mx.array:
        caches = cache.make_prompt_cache(model)
        for layer in caches:
            layer.update_and_fetch(held, held)
        mx.eval([layer.state[:2] for layer in caches])
        return mx.argmax(model(mx.array([[0]]), cache=caches)[:, -1], axis=-1)

    bare = kernels(step).total()
    paths = list(Profile.from_config(config).family.paths.values())
    settings = {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": paths}
    linear_to_lora_layers(model, config["num_hidden_layers"], settings)
    _zero(model)
    return {"mlx_lm_base": bare, "mlx_lm_lora": kernels(step).total()}


def blank(model: nn.Module) -> None:
    """Pack a model and make every weight zero; what it was made with is never computed."""
    nn.quantize(model, GROUP_SIZE, BITS)
    _zero(model)


def _zero(model: nn.Module) -> None:
    model.update(tree_map(_zeros, model.parameters()))
    mx.eval(model.parameters())


def _zeros(tensor: mx.array) -> mx.array:
    return mx.zeros(tensor.shape, tensor.dtype if tensor.dtype == mx.uint32 else _DTYPE)


def blank_adapter(profile: Profile, rank: int, dtype: str) -> Adapter:
    """A LoRA of zeros on every site."""

    def zeros(rows: int, columns: int) -> Matrix:
        data = np.zeros((rows, row_bytes(dtype, columns)), np.uint8)
        return Matrix(dtype, (rows, columns), data)

    shapes = {site: profile.shapes[site.module] for site in profile.sites()}
    return Adapter(
        {s: Lora(zeros(rank, i), zeros(o, rank), float(rank)) for s, (i, o) in shapes.items()}
    )


if __name__ == "__main__":
    main()
