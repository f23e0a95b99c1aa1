"""What we write, applied by its owners: peft, mlx-lm, the gguf package and llama.cpp.

One adapter with mixed ranks, mixed alphas and missing sites, for a tiny base of each family,
in every dtype of the layout. The owner's logits are compared with ours for the adapter read
back from the same files; the effect of the adapter itself is what an error is measured by.
"""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from tiny_gguf import write_gguf

from paw_mlx import Interpreter, Options, Program, Template, formats
from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.interpreter.adapters.hot import heat
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.profiles import Profile

pytestmark = pytest.mark.filterwarnings("ignore")
TOKENS = list(range(40, 64))
FLOATS = ("f32", "f16", "bf16")


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def base(family: str, tmp_path: Path) -> Path:
    """A base's folder as hubs publish it: GPT-2's has short names and says `n_ctx`."""
    folder = tiny.write_base(tmp_path / "base", family)
    weights = folder / "model.safetensors"
    tensors = mx.load(str(weights))
    mx.eval(tensors)
    short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    mx.save_safetensors(str(weights), short, {"format": "pt"})
    (folder / "config.json").write_text(tiny.changed(family, n_ctx=256))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"})
    )
    return folder


def mixed(profile: Profile, *, uneven: bool = True) -> Adapter:
    """Ranks 32 and 64, alphas of 8 to 24, and one site that has none."""
    chance, sites = np.random.default_rng(3), {}
    for i, site in enumerate(profile.sites()):
        if uneven and i == 1:
            continue
        d_in, d_out = profile.shapes[site.module]
        r = 64 if uneven and i % 3 == 0 else 32
        A = chance.normal(0, d_in**-0.5, (r, d_in)).astype(np.float32)
        B = chance.normal(0, 0.1, (d_out, r)).astype(np.float32)
        alpha = 8.0 + 4 * (i % 5) if uneven else 16.0
        sites[site] = Lora(Matrix.from_array(A), Matrix.from_array(B), alpha)
    return Adapter(sites)


def ours(base: Path, adapter: Adapter | None, tokens: list[int] = TOKENS) -> np.ndarray:
    """Our logits for every token, in float32."""
    loaded = load_base(base)
    if adapter:
        heat(loaded.groups, adapter)
    hidden = loaded.model.hidden(mx.array([tokens]), KV(loaded.model.num_layers))
    return np.array(loaded.model.logits(hidden)[0])


def assert_close(base: Path, adapter: Adapter, theirs: np.ndarray, tolerance: float) -> None:
    """Their logits and ours differ by no more than a part of what the adapter does."""
    wanted = ours(base, adapter)
    effect = np.abs(wanted - ours(base, None)).max()
    assert effect > 1
    assert np.abs(wanted - theirs).max() < tolerance * effect


def saved(
    base: Path, family: str, layout: str, dtype: str, *, uneven: bool = True
) -> tuple[Adapter, Path]:
    """The adapter as written in a layout, and where."""
    profile = tiny.profile(family)
    path = base.with_name(f"{layout}-{dtype}")
    formats.save_adapter(mixed(profile, uneven=uneven), path, layout, profile, dtype)
    return formats.load_adapter(path, profile), path


# --- peft ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_peft_computes_our_deltas_and_logits(base: Path, family: str, dtype: str) -> None:
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    adapter, path = saved(base, family, "peft", dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wrapped = peft.PeftModel.from_pretrained(model, path).eval()
    profile = tiny.profile(family)
    for site in profile.sites():
        module = wrapped.base_model.model.get_submodule(profile.family.path(site))
        assert hasattr(module, "lora_A") == (site in adapter.sites)
        if site in adapter.sites:
            delta = module.get_delta_weight("default").detach().numpy()
            delta = delta.T if family == "gpt2" else delta  # Conv1D's weight is (in, out)
            np.testing.assert_allclose(delta, adapter.delta(site), atol=1e-6)
    with torch.no_grad():
        theirs = wrapped(torch.tensor([TOKENS])).logits[0].numpy()
    assert_close(base, adapter, theirs, 1e-4)


# --- mlx-lm --------------------------------------------------------------------------------


def mlx_logits(base: Path, path: Path) -> np.ndarray:
    mlx_lm = pytest.importorskip("mlx_lm")
    model, _ = mlx_lm.load(str(base), adapter_path=str(path))
    return np.array(model(mx.array([TOKENS]))[0].astype(mx.float32))


@pytest.mark.parametrize("dtype", FLOATS)
def test_mlx_lm_computes_our_logits(base: Path, family: str, dtype: str) -> None:
    adapter, path = saved(base, family, "mlx", dtype)
    assert_close(base, adapter, mlx_logits(base, path), 1e-4)


def test_mlx_lm_generates_our_text(base: Path, family: str) -> None:
    mlx_lm = pytest.importorskip("mlx_lm")
    adapter, path = saved(base, family, "mlx", "f32")
    model, tokenizer = mlx_lm.load(str(base), adapter_path=str(path))
    program = Program(Template("", ""), adapter, tiny.profile(family).name)
    with Interpreter.load(str(base)) as interpreter:
        texts = set()
        for prompt in ("the disk is full", "spring picnic", "server"):
            result = interpreter.run(program, prompt, Options(max_tokens=12))
            theirs = mlx_lm.generate(model, tokenizer, prompt, max_tokens=12)
            assert theirs.strip() == result.text
            texts.add(result.text)
    assert len(texts) == 3


def test_mlx_lm_adapts_only_the_layers_that_the_adapter_covers(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    folder = tiny.write_base(tmp_path / "base", "qwen3")
    (folder / "tokenizer_config.json").write_text("{}")
    profile = tiny.profile("qwen3")
    whole = mixed(profile, uneven=False).sites
    for layers, counted in (((1,), 2), ((2,), 1), ((0, 2), 3)):
        adapter = Adapter({s: lora for s, lora in whole.items() if s.layer in layers})
        path = tmp_path / f"a{layers}"
        formats.save_adapter(adapter, path, "mlx", profile)
        config = json.loads((path / "adapter_config.json").read_text())
        assert config["num_layers"] == counted
        assert_close(folder, adapter, mlx_logits(folder, path), 1e-4)


def test_mlx_lm_does_not_take_mlx_q4_for_its_own(base: Path, family: str) -> None:
    _, path = saved(base, family, "mlx", "mlx-q4")
    with pytest.raises(ValueError, match="incompatible tensors"):
        mlx_logits(base, path)


@pytest.mark.parametrize("keys", [None, 2], ids=["every module", "two keys"])
def test_what_mlx_lm_trained_is_read_and_computes_its_logits(
    base: Path, family: str, keys: int | None, tmp_path: Path
) -> None:
    lora = pytest.importorskip("mlx_lm.lora")
    rows = [{"prompt": f"disk {i}", "completion": f"server {i}"} for i in range(8)]
    (tmp_path / "data").mkdir()
    for part in ("train", "valid"):
        lines = "\n".join(json.dumps({"text": row["prompt"] + row["completion"]}) for row in rows)
        (tmp_path / "data" / f"{part}.jsonl").write_text(lines)
    profile, out = tiny.profile(family), tmp_path / "trained"
    parameters: dict[str, Any] = {"rank": 4, "dropout": 0.0, "scale": 20.0}
    if keys:
        parameters["keys"] = list(profile.family.paths.values())[:keys]
    asked = {"model": str(base), "train": True, "data": str(tmp_path / "data"), "iters": 4}
    asked |= {"adapter_path": str(out), "learning_rate": 1e-2, "num_layers": 2}
    asked |= {"lora_parameters": parameters, "batch_size": 4, "val_batches": 1}
    lora.run(types.SimpleNamespace(**{**lora.CONFIG_DEFAULTS, "trust_remote_code": False, **asked}))
    adapter = formats.load_adapter(out, profile)
    assert adapter.layers == (profile.num_layers - 2, profile.num_layers - 1)
    assert len(adapter.modules) == (keys or len(profile.shapes))
    assert_close(base, adapter, mlx_logits(base, out), 1e-4)


# --- gguf and llama.cpp --------------------------------------------------------------------

GGUF = ("f32", "f16", "bf16", "q8_0", "q4_0")


@pytest.mark.parametrize("dtype", GGUF)
def test_gguf_makes_the_same_bits(family: str, dtype: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    profile = tiny.profile(family)
    adapter = mixed(profile, uneven=False)
    formats.save_adapter(adapter, tmp_path / "a.gguf", "gguf", profile, dtype)
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert len(found) == 2 * len(adapter.sites)
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    heads = {"q_proj": profile.num_heads, "k_proj": profile.num_kv_heads}
    for site, lora in adapter.sites.items():
        name = f"{profile.family.gguf_name(site)}.weight.lora_"
        B = lora.B.dense()
        if site.module in profile.family.permuted:
            split = B.reshape(heads[site.module], 2, -1, B.shape[1])
            B = split.swapaxes(1, 2).reshape(B.shape)
        for half, dense in (("a", lora.A.dense()), ("b", B)):
            wanted = gguf.quants.quantize(np.ascontiguousarray(dense), kind)
            assert found[name + half].tensor_type == kind
            assert found[name + half].data.tobytes() == wanted.tobytes()


# llama.cpp multiplies in the adapter's dtype: it rounds activations to it, to q8_0 for q4_0.
ROUNDED = {"f32": 1e-4, "f16": 2e-3, "bf16": 1e-2, "q8_0": 3e-2, "q4_0": 3e-2}
GELU = 4e-3  # GPT-2's, which it looks up in a table of f16


@pytest.fixture
def gguf_base(base: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same base in F32 for llama.cpp, which wants Qwen3's value_length besides key_length."""
    gguf = pytest.importorskip("gguf")

    class Writer(gguf.GGUFWriter):
        def add_key_length(self, length: int) -> None:
            super().add_key_length(length)
            self.add_value_length(length)

    monkeypatch.setattr(gguf, "GGUFWriter", Writer)
    named = tiny.write_base(base.with_name("named"), family)
    write_gguf(base.with_name("base.gguf"), named, family, ["F32"])
    return base.with_name("base.gguf")


@pytest.mark.parametrize("dtype", GGUF)
def test_llama_cpp_computes_our_logits(
    gguf_base: Path, base: Path, family: str, dtype: str
) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    adapter, path = saved(base, family, "gguf", dtype)
    llm = llama_cpp.Llama(
        str(gguf_base),
        lora_path=str(path),
        n_ctx=64,
        logits_all=True,
        verbose=False,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    llm.eval(TOKENS)
    tolerance = max(ROUNDED[dtype], GELU if family == "gpt2" else 0)
    assert_close(base, adapter, llm.scores[: len(TOKENS)], tolerance)
