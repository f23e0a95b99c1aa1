"""Kernels per decoded token: mlx-lm and paw-mlx, each bare and with a LoRA on every module.

    python -m paw_mlx.benchmarks.kernels [--json]

Both run Qwen3-0.6B's shapes in 4 bits, groups of 64, activations in bfloat16, a LoRA of rank
64; the weights are random, since no count depends on them. What is counted (`counting.py`) is
the step that decoding repeats: one token in, room in the KV cache, the best token out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click
import mlx.core as mx

from paw_mlx.adapter import Adapter
from paw_mlx.benchmarks.counting import kernels
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.formats.gguf import recode
from paw_mlx.interpreter.adapters.bank import Bank
from paw_mlx.interpreter.adapters.parallel import fuse
from paw_mlx.interpreter.engine.kv import KV, Slots
from paw_mlx.interpreter.models import make_model
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

QWEN3 = synthetic.config("qwen3-0.6b")
BITS, ROWS = 4, 8
_DTYPE = mx.bfloat16
_LENGTH, _ROOM = 40, 256  # tokens that the cache holds, and has room for
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


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def main(as_json: bool) -> None:
    """Count the kernels of a decoded token."""
    counts = count_theirs(QWEN3) | count_ours(QWEN3)
    if as_json:
        click.echo(json.dumps(counts))
        return
    for name, label in _LABELS.items():
        click.echo(f"{label:<64}{counts[name]:>12,}")


def count_ours(config: dict[str, Any], rank: int = synthetic.RANK) -> dict[str, int]:
    """Count each kind of step with the forms that the bank chooses, and a program's bytes."""
    model, profile = make_model(config), Profile.from_config(config)
    synthetic.fill(model, BITS, _DTYPE)
    groups, packed = fuse(model, profile), synthetic.adapter(profile, rank)
    sites = {
        site: replace(lora, A=recode(lora.A, "f16"), B=recode(lora.B, "f16"))
        for site, lora in packed.sites.items()
    }
    bare, one, other, dense = (
        Program(Template("", ""), adapter, profile.name)
        for adapter in (None, packed, packed, Adapter(sites))
    )

    def bank() -> Bank:
        return Bank(groups, _DTYPE, packed=True, max_bytes=lambda: 1 << 30)

    def count(programs: Sequence[Program]) -> int:
        bank().use(programs)
        return kernels(_step(model, config, len(programs))).total()

    return {
        "base": count([bare]),
        "program": count([one]),
        "base_rows": count([bare] * ROWS),
        "program_rows": count([one] * ROWS),
        "mixed": count([one, other] * (ROWS // 2)),
        "program_dense": count([dense]),
        "resident_bytes": bank().resident_bytes(one),
    }


def _step(model: Any, config: dict[str, Any], rows: int) -> Callable[[], mx.array]:
    """A step of rows at different positions, as the engine makes it."""
    held, slots = _held(config), Slots(model.num_layers)
    slots.reserve(rows, _ROOM)
    for row in range(rows):
        slots.load(row, KV.of([(held, held)] * model.num_layers))
    mx.eval(slots.arrays)
    lengths = [_LENGTH - row for row in range(rows)]

    def step() -> mx.array:
        hidden = model.hidden(mx.array([[0]] * rows), slots.view(0, lengths))
        return mx.argmax(model.logits(hidden[:, -1]), axis=-1)

    return step


def count_theirs(config: dict[str, Any], rank: int = synthetic.RANK) -> dict[str, int]:
    """Count mlx-lm's, bare and with its LoRA layers on all seven modules."""
    from mlx_lm.models import cache
    from mlx_lm.models import qwen3 as mlx_lm
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model, held = mlx_lm.Model(mlx_lm.ModelArgs.from_dict(config)), _held(config)
    synthetic.fill(model, BITS, _DTYPE)

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
    model.set_dtype(_DTYPE)
    mx.eval(model.parameters())
    return {"mlx_lm_base": bare, "mlx_lm_lora": kernels(step).total()}


def _held(config: dict[str, Any]) -> mx.array:
    """Keys, or values, of the tokens that the cache holds."""
    shape = (1, config["num_key_value_heads"], _LENGTH, config["head_dim"])
    return mx.zeros(shape, _DTYPE)


if __name__ == "__main__":
    main()
