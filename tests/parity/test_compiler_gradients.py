"""A compiler's training against torch's autograd: the loss, and its gradient by every array.

The torch side is written from the formulas anew: transformers' models, a LoRA as a hook on each
linear layer, the paper's mapper of `compiler_oracle`, and every case in a row of its own. Its
mapper is saved in the published layout and converted; ours begins from that file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
import toy_compilers as toy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import compiler_oracle as by  # noqa: E402

from paw_mlx.compiler.base_encoder import SpecReader  # noqa: E402
from paw_mlx.convert.mapper import convert_mapper  # noqa: E402
from paw_mlx.interpreter.models.load import load_base  # noqa: E402
from paw_mlx.training.mapper import Arrays, MapperTrainer  # noqa: E402
from paw_mlx.training.recipe import CompilerRecipe  # noqa: E402
from paw_mlx.training.sampling import Drawn  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

TOLERANCE = 1e-4  # of a gradient's largest number
HIDDEN, LAYERS, BASES, RANK, ALPHA, PREFIX = 64, {"interpreter": 3, "encoder": 5}, 4, 2, 6.0, 3
SIZES = {
    "hidden_size": HIDDEN,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
MODULES = {  # d_in, d_out; in the order of a checkpoint, which is not the mapper's
    "q_proj": (64, 64),
    "k_proj": (64, 32),
    "v_proj": (64, 32),
    "o_proj": (64, 64),
    "gate_proj": (64, 96),
    "up_proj": (64, 96),
    "down_proj": (96, 64),
}
RECIPE = CompilerRecipe(
    rank=RANK,
    alpha=ALPHA,
    bases=BASES,
    trunk=HIDDEN,  # as the published mapper's
    prefix_tokens=PREFIX,
    train_encoder="lora",
    functions_per_batch=2,
    batch=4,
)
DRAWN = [
    Drawn("Say 1 if the disk is full.", [5, 6, 7, 8, 9], [([20, 21], [30, 3]), ([22], [31])]),
    Drawn("Is it spring?", [11, 12], [([23, 24, 25], [32, 33, 34, 3]), ([26, 27], [35, 3])]),
]
Sites = Mapping[tuple[int, str], tuple[Any, Any]]  # layer, module: A (r, d_in), B (d_out, r)


@dataclass(frozen=True)
class Both:
    """Tiny models in Hugging Face's layout, by torch and by us, and the arrays to train."""

    interpreter: Any
    encoder: Any
    trainer: MapperTrainer
    arrays: Arrays


def save_llama(folder: Path, num_layers: int, seed: int) -> Any:
    """Save a random Llama and its tokenizer; return it in float64, so that it is right."""
    tokenizer = tiny.tokenizer()
    config = transformers.LlamaConfig(
        **SIZES,
        num_hidden_layers=num_layers,
        vocab_size=tokenizer.get_vocab_size(),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    by._randomize(model, seed, embedding=0.2)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return model.double().eval().requires_grad_(False)


def save_mapper(folder: Path) -> Arrays:
    """Save a random mapper as published, convert it, and read what came of it."""
    torch.manual_seed(3)
    mapper = by.Mapper(HIDDEN, LAYERS["interpreter"], MODULES, BASES, RANK, bias=0.0)
    with torch.no_grad():  # under a large LoRA attention sees one token, and rounding is large
        mapper.coeff_head.weight.mul_(0.05)
        mapper.coeff_head.bias.mul_(4.0)
    torch.save(mapper.state_dict(), folder / "lora_mapper.pt")
    meta = {
        "interpreter_model": "tiny",
        "lora_rank": RANK,
        "lora_alpha": ALPHA,
        "lora_num_bases": BASES,
        "prefix_steps": PREFIX,
        "compiler_prompt_style": "minimal",
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    convert_mapper(folder / "lora_mapper.pt", folder / "mapper.safetensors", meta)
    return dict(mx.load(str(folder / "mapper.safetensors")))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("gradients")
    models = [save_llama(folder / name, LAYERS[name], seed) for seed, name in enumerate(LAYERS)]
    interpreter, encoder = (load_base(folder / name, trainable=True) for name in LAYERS)
    reader = SpecReader(encoder, LAYERS["interpreter"])
    trainer = MapperTrainer(interpreter, reader, RECIPE, checkpointing=False)
    begun = trainer.initial(None, start_from=save_mapper(folder))
    ours = {n: a for n, a in begun.items() if n.startswith(("lora.", "prefix"))}
    return Both(*models, trainer, begun | toy.stirred(ours))


@contextmanager
def hooked(model: Any, sites: Sites, scale: float) -> Iterator[None]:
    """y = Wx + scale * B(Ax) on the linear layers of a model, for a while."""

    def add(A: Any, B: Any, module: Any, given: Any, y: Any) -> Any:
        return y + scale * (given[0] @ A.to(y).T) @ B.to(y).T

    hooks = []
    for (layer, name), pair in sites.items():
        block = model.model.layers[layer]
        module = getattr(block.self_attn if name[0] in "qkvo" else block.mlp, name)
        hooks.append(module.register_forward_hook(functools.partial(add, *pair)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def encoder_sites(arrays: Mapping[str, Any]) -> Sites:
    """The encoder's LoRA; its matrices lie transposed, the scale folded in."""
    return {
        (layer, name): tuple(arrays[f"lora.{layer}.{name}.{half}"].T for half in "ab")
        for layer in range(LAYERS["encoder"])
        for name in MODULES
    }


def torch_states(both: Both, arrays: Mapping[str, Any], tokens: list[int]) -> Any:
    """The encoder's states (L, P, H) of the prefix tokens behind a spec."""
    embedded = both.encoder.model.embed_tokens(torch.tensor([tokens]))
    embedded = torch.cat([embedded, arrays["prefix_tokens"][None]], dim=1)
    with hooked(both.encoder, encoder_sites(arrays), 1.0):
        states = both.encoder.model(inputs_embeds=embedded, output_hidden_states=True).hidden_states
    chosen = by.teachers(LAYERS["interpreter"], LAYERS["encoder"])
    return torch.stack([states[1 + layer][0, -PREFIX:] for layer in chosen])


def torch_loss(both: Both, arrays: Mapping[str, Any], mistake: str = "") -> Any:
    """The loss of `DRAWN`: each case weighed by the root of its output's length, alone."""
    mapper = by.Mapper(HIDDEN, LAYERS["interpreter"], MODULES, BASES, RANK)
    total, weights = 0.0, 0.0
    scale = 1.0 if mistake == "unscaled" else ALPHA / RANK
    for drawn in DRAWN:
        spec = tiny.tokenizer().encode(f"[SPEC]\n{drawn.spec}\n[END_SPEC]").ids
        states = torch_states(both, arrays, spec)
        of_mapper = {n: a for n, a in arrays.items() if not n.startswith(("lora.", "prefix"))}
        sites = torch.func.functional_call(mapper, of_mapper, (states, mistake))
        with hooked(both.interpreter, sites, scale):
            for text, output in drawn.cases:
                tokens = torch.tensor([[*drawn.prompt, *text, *output]])
                logits = both.interpreter(tokens).logits[0, -len(output) - 1 : -1]
                each = torch.nn.functional.cross_entropy(
                    logits, torch.tensor(output), reduction="none"
                )
                weight = 1.0 if mistake == "all alike" else len(output) ** -0.5
                total, weights = total + weight * each.sum(), weights + weight * len(output)
    return total / weights


def torch_gradients(both: Both, mistake: str = "") -> tuple[float, dict[str, np.ndarray]]:
    arrays = {
        name: torch.tensor(np.array(array, np.float64), requires_grad=True)
        for name, array in both.arrays.items()
    }
    loss = torch_loss(both, arrays, mistake)
    loss.backward()
    return float(loss), {name: array.grad.numpy() for name, array in arrays.items()}


def off(found: Any, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(np.array(found) - expected).max() / np.abs(expected).max())


def gradients(both: Both, *, checkpointing: bool = False) -> tuple[float, Arrays]:
    trainer = MapperTrainer(
        both.trainer.base, both.trainer.reader, RECIPE, checkpointing=checkpointing
    )
    loss, found = mx.value_and_grad(trainer.loss)(both.arrays, trainer.prepare(DRAWN, None))
    return float(loss), found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_equal_torch_s(both, checkpointing):
    loss, found = gradients(both, checkpointing=checkpointing)
    expected_loss, expected = torch_gradients(both)
    assert loss == pytest.approx(expected_loss, rel=TOLERANCE)
    num_encoder = 2 * LAYERS["encoder"] * len(MODULES)
    assert len(found) == 4 + 2 * len(MODULES) + 1 + num_encoder
    assert found.keys() == expected.keys()
    assert all(np.abs(array).max() > 0 for array in expected.values())
    errors = {name: off(found[name], expected[name]) for name in expected}
    assert max(errors.values()) < TOLERANCE, max(errors.items(), key=lambda item: item[1])


def test_states_equal_torch_s(both):
    arrays = {n: torch.tensor(np.array(a, np.float64)) for n, a in both.arrays.items()}
    for drawn in DRAWN:
        tokens = tiny.tokenizer().encode(f"[SPEC]\n{drawn.spec}\n[END_SPEC]").ids
        expected = torch_states(both, arrays, tokens).mean(dim=(0, 1)).numpy()
        assert off(both.trainer.read(both.arrays, tokens), expected) < TOLERANCE


@pytest.mark.parametrize(
    "mistake", ["unscaled", "all alike", "tanh gelu", "modules unsorted", "A and B exchanged"]
)
def test_a_mistake_would_be_noticed(both, mistake):
    _, found = gradients(both)
    _, other = torch_gradients(both, mistake)
    assert max(off(found[name], other[name]) for name in found) > 10 * TOLERANCE


def test_a_frozen_encoder_leaves_the_mapper_s_gradients(both):
    """Without prefix tokens and LoRA: the states of all tokens, which are constants."""
    recipe = replace(RECIPE, prefix_tokens=0, train_encoder="none")
    trainer = MapperTrainer(both.trainer.base, both.trainer.reader, recipe, checkpointing=False)
    pooled = toy.pooled(trainer, [drawn.spec for drawn in DRAWN])
    arrays = {n: a for n, a in both.arrays.items() if not n.startswith(("lora.", "prefix"))}
    loss, found = mx.value_and_grad(trainer.loss)(arrays, trainer.prepare(DRAWN, pooled))
    assert found.keys() == arrays.keys()
    for number, drawn in enumerate(DRAWN):
        tokens = tiny.tokenizer().encode(f"[SPEC]\n{drawn.spec}\n[END_SPEC]").ids
        states = both.encoder.model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
        chosen = by.teachers(LAYERS["interpreter"], LAYERS["encoder"])
        expected = torch.stack([states[1 + layer][0] for layer in chosen]).mean(dim=(0, 1))
        assert off(pooled[number], expected.numpy()) < TOLERANCE
    assert np.isfinite(float(loss))
