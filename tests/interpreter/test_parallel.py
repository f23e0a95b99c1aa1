"""Fused layers compute what the layers of the file computed, and their forms what LoRA says."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import tiny
from mlx.utils import tree_map_with_path

from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.device import assume_gpu
from paw_mlx.formats.gguf import recode
from paw_mlx.interpreter.adapters import lora
from paw_mlx.interpreter.adapters.hot import heat, widen
from paw_mlx.interpreter.adapters.parallel import Parallel, fuse
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models import elementwise, make_model, read_args
from paw_mlx.profiles import Profile

# Widths that groups of 128 divide; q is three times as wide as k and v.
SIZES: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 384, "num_attention_heads": 6},
    "qwen3": {"hidden_size": 128, "num_attention_heads": 6, "head_dim": 64},
    "gpt2": {"n_embd": 128},
}
LARGE = {"hidden_size": 1024, "intermediate_size": 4096}
PACKINGS = [(4, 32), (4, 64), (4, 128), (6, 64), (8, 32), (8, 128)]
TOKENS = mx.array([[5, 17, 2, 99, 31], [7, 7, 80, 3, 250]])
Packings = tuple[int, int] | None


def settings(family: str, **changes: Any) -> dict[str, Any]:
    return tiny.config(family) | {"intermediate_size": 256} | SIZES[family] | changes


def profile(family: str, **changes: Any) -> Profile:
    return Profile.from_config(settings(family, **changes))


def model(family: str, packing: Packings = None, **changes: Any) -> Any:
    """A base as it is filled, not yet fused; the same weights every time."""
    made: Any = make_model(settings(family, **changes))
    mx.random.seed(3)

    def weights(name: str, tensor: mx.array) -> mx.array:
        noise = mx.random.normal(tensor.shape)
        if tensor.ndim == 1:
            return (1 + 0.3 * noise) if "bias" not in name else 0.1 * noise
        return noise * (0.7 if "embed" in name or "wte" in name else 1.3) / tensor.shape[1] ** 0.5

    made.update(tree_map_with_path(weights, made.parameters()))
    if packing:
        nn.quantize(made, bits=packing[0], group_size=packing[1])
    mx.eval(made.parameters())
    return made


def fused(family: str, packing: Packings = None, **changes: Any) -> tuple[Any, list[Parallel]]:
    made = model(family, packing, **changes)
    return made, fuse(made, profile(family, **changes))


def said(base: Any) -> np.ndarray:
    """Logits of two rows at once, and of the first row token by token after its prompt."""
    together = base.logits(base.hidden(TOKENS, KV(base.num_layers)))
    kv = KV(base.num_layers)
    steps = [base.hidden(TOKENS[:1, :2], kv)]
    steps += [base.hidden(TOKENS[:1, i : i + 1], kv) for i in range(2, TOKENS.shape[1])]
    alone = base.logits(mx.concatenate(steps, axis=1))
    return np.array(mx.concatenate([together, alone]).astype(mx.float32))


def adapter(
    family: str, dtype: str = "f32", ranks: tuple[int, ...] = (8,), seed: int = 0, **changes: Any
) -> Adapter:
    """A random adapter, its ranks in turn over the sites; a rank 0 leaves the site out."""
    chance, known = np.random.default_rng(seed), profile(family, **changes)
    sites = {}
    for i, site in enumerate(known.sites()):
        d_in, d_out = known.shapes[site.module]
        if rank := ranks[i % len(ranks)]:
            A = chance.normal(0, d_in**-0.5, (rank, d_in)).astype(np.float32)
            B = chance.normal(0, 0.2, (d_out, rank)).astype(np.float32)
            A, B = (recode(Matrix.from_array(matrix), dtype) for matrix in (A, B))
            sites[site] = Lora(A, B, 1.5 * rank)
    return Adapter(sites)


def with_pairs(base: Any, groups: list[Parallel], program: Adapter) -> np.ndarray:
    lora.attach(groups, lora.pairs(program, mx.float32))
    logits = said(base)
    lora.attach(groups, {})
    return logits


def assert_close(ours: np.ndarray, right: np.ndarray) -> None:
    assert np.ptp(right) > 1
    assert np.ptp(right, axis=0).max() > 0.1  # the rows and tokens differ
    np.testing.assert_allclose(ours, right, atol=2e-5 * np.abs(right).max())


def merged(family: str, program: Adapter) -> Any:
    """The base with the adapter added to its weights, its layers apart."""
    base = model(family)
    for site, pair in program.sites.items():
        layer: Any = base
        for name in profile(family).family.path(site).split("."):
            layer = layer[int(name)] if isinstance(layer, list) else layer[name]
        layer.weight = layer.weight + mx.array(program.delta(site))
        assert pair.scale == 1.5
    return base


def apart(base: Any, family: str) -> Any:
    """A base that runs the layers of its file one by one."""
    blocks = base
    for name in profile(family).family.layers.split("."):
        blocks = blocks[name]
    for i, block in enumerate(blocks):
        block.fuse(i, copied=False)
    return base


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fusing_changes_no_logit(family, tied):
    right = said(apart(model(family, tie_word_embeddings=tied), family))
    base, groups = fused(family, tie_word_embeddings=tied)
    assert_close(said(base), right)
    assert {site for group in groups for site in group.sites} == set(profile(family).sites())


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_fused_attention_is_the_textbook_s(family):
    """q, k and v by themselves, each normed with its own weights, each rotated by MLX."""
    args, x = read_args(settings(family, hidden_size=384)), mx.random.normal((2, 5, 384))
    block = model(family, hidden_size=384).model.layers[0]
    attention = block.self_attn

    def heads(y: mx.array, norm: Any = None) -> mx.array:
        y = y.reshape(2, 5, -1, args.head_dim)
        return (norm(y) if norm else y).swapaxes(1, 2)

    def rope(y: mx.array) -> mx.array:
        return mx.fast.rope(
            y, args.head_dim, traditional=False, base=args.theta, scale=1.0, offset=0
        )

    q, k, v = (heads(attention[f"{name}_proj"](x), attention.get(f"{name}_norm")) for name in "qkv")
    y = mx.fast.scaled_dot_product_attention(
        rope(q), rope(k), v, scale=args.head_dim**-0.5, mask="causal"
    )
    right = np.array(attention.o_proj(y.swapaxes(1, 2).reshape(2, 5, -1)))
    attention.fuse(0, copied=True)
    turns = elementwise.Rotation(args.head_dim, args.theta).turns(mx.arange(5))
    assert_close(np.array(attention(x, KV(1), 0, "causal", turns)), right)


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fusing_packed_layers_changes_no_bit(family, packing):
    right = said(apart(model(family, packing), family))
    base, groups = fused(family, packing)
    assert all(len(group.stacks) == 1 for group in groups)
    np.testing.assert_array_equal(said(base), right)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_pairs_are_the_adapter_added_to_the_weights(family):
    base, groups = fused(family)
    bare, program = said(base), adapter(family, ranks=(8, 3, 0))
    ours = with_pairs(base, groups, program)
    assert_close(ours, said(apart(merged(family, program), family)))
    assert np.abs(ours - bare).max() > 1
    np.testing.assert_array_equal(said(base), bare)  # and detached again


ADAPTERS = [
    ("f32", (8,)),
    ("f32", (8, 3, 0, 1)),  # other ranks at every site, some sites missing
    ("f16", (5, 0)),
    ("q8_0", (32,)),
    ("q4_0", (32,)),
    ("q4_0", (64, 0, 32)),
]


@pytest.mark.slow
@pytest.mark.parametrize("packing", [None, (2, 32), (4, 32), (4, 64), (6, 64), (8, 128)], ids=str)
@pytest.mark.parametrize(("dtype", "ranks"), ADAPTERS, ids=str)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_hot_says_what_pairs_say(family, dtype, ranks, packing):
    base, groups = fused(family, packing)
    program = adapter(family, dtype, ranks)
    right = with_pairs(base, groups, program)
    heat(groups, program)
    ours = said(base)
    assert_close(ours, right)
    lora.attach(groups, {})
    assert np.abs(said(base) - ours).max() > 1


def test_hot_leaves_alone_what_the_adapter_does_not_touch():
    base, groups = fused("qwen3", (4, 64))
    program = Adapter({Site(1, "k_proj"): adapter("qwen3", "q4_0", (32,)).sites[Site(1, "k_proj")]})
    right = with_pairs(base, groups, program)
    heat(groups, adapter("qwen3", "q4_0", (32,), seed=1))
    heat(groups, program)
    assert [group.sites[0] for group in groups if group.form] == [Site(1, "q_proj")]
    assert_close(said(base), right)


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_a_q4_0_stands_below_a_packed_base_to_its_codes(bits, group_size):
    _, groups = fused("qwen3", (bits, group_size))
    before = [decoded(group) for group in groups]
    program = adapter("qwen3", "q4_0", (32, 64))
    heat(groups, program)
    for group, own in zip(groups, before, strict=True):
        rows = decoded(group)
        np.testing.assert_array_equal(rows[: len(own)], own)
        loras = [program.sites[site] for site in group.sites]
        rank = max(pair.rank for pair in loras)
        for chunk, part in enumerate(group.owner):
            A = loras[part].A.dense()
            below = rows[len(own) + chunk * rank :][:rank]
            np.testing.assert_array_equal(below[: len(A)], A)
            assert not below[len(A) :].any()


def decoded(group: Parallel) -> np.ndarray:
    (stack,) = group.stacks
    return np.array(mx.dequantize(stack.weight, stack.scales, stack.biases, **stack.packing))


@pytest.mark.parametrize("bits", [5, 6, 8])
def test_codes_of_more_bits_are_packed_as_mlx_packs_them(bits):
    elements = np.random.default_rng(0).integers(0, 16, (3, 64)).astype(np.uint32)
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    codes = (elements.reshape(3, -1, 8) << shifts).sum(-1, dtype=np.uint32)
    ones, none = mx.ones((3, 2)), mx.zeros((3, 2))
    words = mx.array(widen(codes, bits))
    unpacked = mx.dequantize(words, ones, none, group_size=32, bits=bits)
    np.testing.assert_array_equal(np.array(unpacked), elements)


@pytest.mark.parametrize("packing", [None, (4, 32), (4, 64), (2, 32)], ids=str)
@pytest.mark.parametrize("dtype", ["q4_0", "f32"])
def test_switching_there_and_back_is_the_same_to_the_bit(packing, dtype):
    base, groups = fused("qwen3", packing)
    bare = said(base)
    one, other = (
        adapter("qwen3", dtype, ranks, seed) for seed, ranks in ((0, (32,)), (1, (64, 32, 0)))
    )
    heat(groups, one)
    first = said(base)
    heat(groups, other)
    second = said(base)
    heat(groups, one)
    np.testing.assert_array_equal(said(base), first)
    heat(groups, other)
    np.testing.assert_array_equal(said(base), second)
    lora.attach(groups, {})
    np.testing.assert_array_equal(said(base), bare)
    assert min(np.abs(a - b).max() for a, b in ((first, bare), (first, second))) > 1


def test_parts_that_are_packed_unlike_each_other_stay_apart():
    """As the K-quants of a GGUF mix them."""
    base = model("qwen3")
    kinds = {"v_proj": (8, 32), "up_proj": None, "down_proj": (6, 64)}

    def kind(path: str, layer: nn.Module) -> bool | dict[str, int]:
        packing = kinds.get(path.split(".")[-1], (4, 32))
        if not isinstance(layer, nn.Linear) or packing is None:
            return False
        return dict(zip(("bits", "group_size"), packing, strict=True))

    nn.quantize(base, class_predicate=kind)
    groups = fuse(base, profile("qwen3"))
    assert [len(group.stacks) for group in groups[:4]] == [2, 1, 2, 1]
    program = adapter("qwen3", "q4_0", (32, 64))
    right = with_pairs(base, groups, program)
    heat(groups, program)
    assert_close(said(base), right)


@pytest.mark.slow
@pytest.mark.parametrize("packing", [None, (4, 64)], ids=str)
def test_attaching_does_not_copy_the_base(packing):
    base, groups = fused("qwen3", packing, **LARGE)
    programs = [adapter("qwen3", "q4_0", (32,), seed, **LARGE) for seed in range(3)]
    heat(groups, programs[0])  # now there is room for them
    mx.eval(base.hidden(TOKENS[:1, :1], KV(base.num_layers)))
    held = tiny.active_bytes()
    for program in (*programs[1:], *programs):
        lora.attach(groups, {})
        mx.eval(base.hidden(TOKENS[:1, :1], KV(base.num_layers)))
        mx.reset_peak_memory()
        heat(groups, program)
        assert mx.get_peak_memory() - held < sum(map(nbytes, groups)) / 4
        assert mx.get_active_memory() <= held + 4096


def test_making_room_takes_two_layers_more_at_most():
    base, groups = fused("qwen3", (4, 64), **LARGE)
    layer, held = sum(map(nbytes, groups)) / base.num_layers, tiny.active_bytes()
    mx.reset_peak_memory()
    heat(groups, adapter("qwen3", "q4_0", (32,), **LARGE))
    grown = tiny.active_bytes() - held
    assert grown < sum(map(nbytes, groups)) / 2
    assert mx.get_peak_memory() - held < grown + 2 * layer


def nbytes(group: Parallel) -> int:
    return sum(t.nbytes for stack in group.stacks for t in stack.parameters().values())


@pytest.mark.parametrize("scaled", [False, True])
def test_chains_compiled_into_one_kernel_say_the_same(scaled):
    """As they are on a GPU, for shapes that change; MLX needs no C++ compiler for it."""
    rotation, shapes = elementwise.Rotation(8, 1e4), ((1, 1), (2, 5))
    weights = elementwise.halves(mx.random.normal((3, 1, 1, 8))) if scaled else None

    def chains() -> list[np.ndarray]:
        made = []
        for B, T in shapes:
            x = mx.random.normal((B, T, 3, 2, 8), key=mx.random.key(T)).transpose(0, 2, 3, 1, 4)
            turns = rotation.turns(mx.arange(B)[:, None] + mx.arange(T))
            made += [elementwise.rotate(x, turns, weights), elementwise.swiglu(x, x[:1])]
        return [np.array(y) for y in made]

    plain = chains()
    with assume_gpu():
        compiled = chains()
    for ours, right in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(ours, right, atol=1e-6)


def test_rotating_is_what_mlx_calls_rope():
    x = mx.random.normal((2, 3, 5, 64))
    turns = elementwise.Rotation(64, 1e6).turns(mx.arange(7, 12))
    right = mx.fast.rope(x, 64, traditional=False, base=1e6, scale=1.0, offset=7)
    np.testing.assert_allclose(np.array(elementwise.rotate(x, turns)), np.array(right), atol=1e-5)
    each = elementwise.Rotation(64, 1e6).turns(mx.array([[7], [300]]) + mx.arange(5))
    rows = mx.fast.rope(x, 64, traditional=False, base=1e6, scale=1.0, offset=mx.array([7, 300]))
    ours = elementwise.rotate(x[:, :, None], each)[:, :, 0]
    np.testing.assert_allclose(np.array(ours), np.array(rows), atol=1e-4)


@pytest.mark.parametrize("form", ["bare", "pairs", "hot"])
def test_a_base_leaves_memory_with_its_last_name(form):
    gc.collect()
    base, groups = fused("llama", (4, 32))
    program = adapter("llama", "q4_0", (32,))
    if form == "pairs":
        lora.attach(groups, lora.pairs(program, mx.float32))
    elif form == "hot":
        heat(groups, program)
    said(base)
    gone = weakref.ref(groups[0])
    gc.disable()
    try:
        del base, groups
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_keys_and_values_do_not_hold_the_queries_beside_them(family):
    """While many layers are evaluated, no more is held of each than its keys and values."""
    layers = "n_layer" if family == "gpt2" else "num_hidden_layers"
    base, _ = fused(family, **{layers: 48})
    kv, held = KV(48), tiny.active_bytes()
    base.hidden(mx.zeros((1, 200), mx.int32), kv)
    mx.reset_peak_memory()
    mx.eval(kv.arrays)
    assert tiny.active_bytes() - held < 1.1 * kv.nbytes
    assert mx.get_peak_memory() - held < 2 * kv.nbytes
