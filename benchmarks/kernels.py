"""Kernels per decoded token: mlx-lm and paw-mlx, each bare and with a LoRA on every module.

    python -m paw_mlx.benchmarks.kernels [--json]

Both run Qwen3-0.6B's shapes in 4 bits, groups of 64, activations in bfloat16, a LoRA of rank
64; the weights are random, since no count depends on them. What is counted is the step that
decoding repeats: one token in, room in the KV cache, the best token out.

An array that is not yet evaluated is a graph, and `mx.export_to_dot` writes it down: every
rectangle is an operation, and every one that moves no data (a view) launches nothing. Two
things differ without a GPU and are put right while the graph is built: MLX takes its fast
operations apart, so each is replaced by a single other one of the same shape that no model
uses; and `elementwise.py` leaves its chains plain.

A count is of operations, not of launches measured: attention over a long context takes two
passes, an operation may copy an operand first. It is exact, and so it can be compared.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import mlx.core as mx

from paw_mlx.adapter import Adapter
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.device import assume_gpu
from paw_mlx.formats.gguf import recode
from paw_mlx.interpreter.adapters.bank import Bank
from paw_mlx.interpreter.adapters.parallel import Parallel, fuse
from paw_mlx.interpreter.engine.kv import KV, Slots
from paw_mlx.interpreter.engine.step import PATIENCE, Step
from paw_mlx.interpreter.models import make_model
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

QWEN3 = synthetic.config("qwen3-0.6b")
BITS, ROWS = 4, 8
_DTYPE = mx.bfloat16
_LENGTH, _ROOM = 40, 256  # tokens that the cache holds, and has room for
VIEWS = frozenset(
    {
        "Broadcast", "Depends", "ExpandDims", "Flatten", "Reshape", "Slice", "Split", "Squeeze",
        "StopGradient", "Transpose", "Unflatten", "View",
    }
)  # fmt: skip
_OPERATION = re.compile(r'label ="([^"]+)", shape=rectangle')
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

    def count(programs: Sequence[Program]) -> int:
        with as_on_gpu():
            step = our_step(model, make_bank(groups), config, programs)
        return kernels_of(step).total()

    return {
        "base": count([bare]),
        "program": count([one]),
        "base_rows": count([bare] * ROWS),
        "program_rows": count([one] * ROWS),
        "mixed": count([one, other] * (ROWS // 2)),
        "program_dense": count([dense]),
        "resident_bytes": make_bank(groups).resident_bytes(one),
    }


def make_bank(groups: Sequence[Parallel]) -> Bank:
    """Make a bank as a GPU has it, with room for all."""
    return Bank(groups, _DTYPE, packed=True, max_bytes=lambda: 1 << 30)


def our_step(
    model: Any, bank: Bank, config: dict[str, Any], programs: Sequence[Program]
) -> Callable[[], mx.array]:
    """Return what builds a step of rows at different positions, as the engine builds it.

    That is the compiled step, since its shape has come some times already.
    """
    held, slots = _held(config), Slots(model.num_layers)
    slots.reserve(len(programs), _ROOM)
    for row in range(len(programs)):
        slots.load(row, KV.of([(held, held)] * model.num_layers))
    mx.eval(slots.arrays)
    step, arrays = Step(model, bank, slots), slots.arrays
    lengths = [_LENGTH - row for row in range(len(programs))]

    def build() -> mx.array:
        bank.use(programs)
        logits = step.logits(mx.array([[0]] * len(programs)), lengths)
        slots.replace(arrays)  # none goes on from one that is never evaluated
        return mx.argmax(logits[:, -1], axis=-1)

    for _ in range(PATIENCE):
        slots.replace([array[:] for array in arrays])  # which the plain step writes into
        build()
    return build


def count_theirs(config: dict[str, Any], rank: int = synthetic.RANK) -> dict[str, int]:
    """Count mlx-lm's, bare and with its LoRA layers on all seven modules."""
    from mlx_lm.tuner.utils import linear_to_lora_layers

    model, step = their_step(config)
    bare = kernels_of(step).total()
    paths = list(Profile.from_config(config).family.paths.values())
    settings = {"rank": rank, "scale": 2.0, "dropout": 0.0, "keys": paths}
    linear_to_lora_layers(model, config["num_hidden_layers"], settings)
    model.set_dtype(_DTYPE)
    mx.eval(model.parameters())
    return {"mlx_lm_base": bare, "mlx_lm_lora": kernels_of(step).total()}


def their_step(config: dict[str, Any]) -> tuple[Any, Callable[[], mx.array]]:
    """Return mlx-lm's model, and what builds a step of it."""
    from mlx_lm.models import cache
    from mlx_lm.models import qwen3 as mlx_lm

    model, held = mlx_lm.Model(mlx_lm.ModelArgs.from_dict(config)), _held(config)
    synthetic.fill(model, BITS, _DTYPE)
    caches = cache.make_prompt_cache(model)
    for layer in caches:
        layer.update_and_fetch(held, held)
    arrays = [(layer.keys, layer.values) for layer in caches]
    mx.eval(arrays)

    def build() -> mx.array:
        for layer, (keys, values) in zip(caches, arrays, strict=True):
            layer.keys, layer.values, layer.offset = keys[:], values[:], _LENGTH
        return mx.argmax(model(mx.array([[0]]), cache=caches)[:, -1], axis=-1)

    return model, build


def _held(config: dict[str, Any]) -> mx.array:
    """Keys, or values, of the tokens that the cache holds."""
    shape = (1, config["num_key_value_heads"], _LENGTH, config["head_dim"])
    return mx.zeros(shape, _DTYPE)


def kernels_of(build: Callable[[], mx.array]) -> Counter[str]:
    """Count the kernels, by name, of the array that `build` makes and does not evaluate."""
    with tempfile.TemporaryDirectory() as folder, as_on_gpu():
        path = Path(folder) / "graph.dot"
        mx.export_to_dot(str(path), build())
        found = Counter(_OPERATION.findall(path.read_text()))
    return Counter({name: num for name, num in found.items() if name not in VIEWS})


def _attention(q: mx.array, k: mx.array, v: mx.array, **_: Any) -> mx.array:
    return mx.arctan2(q, mx.broadcast_to(mx.depends(k, v)[:, :1, :1], q.shape))


_WHOLE: dict[str, Callable[..., mx.array]] = {
    "rms_norm": lambda x, *_: mx.erf(x),
    "layer_norm": lambda x, *_: mx.erf(x),
    "rope": lambda x, *_, **__: mx.erfinv(x),
    "scaled_dot_product_attention": _attention,
}


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Let steps be built as on a GPU, each of MLX's fast operations one in the graph."""
    own = {name: getattr(mx.fast, name) for name in _WHOLE}
    try:
        for name, whole in _WHOLE.items():
            setattr(mx.fast, name, whole)
        with assume_gpu():
            yield
    finally:
        for name, operation in own.items():
            setattr(mx.fast, name, operation)


if __name__ == "__main__":
    main()
