"""Our layouts in the hands of those who define them, and theirs in ours.

Each oracle runs live where it is installed: peft and transformers, mlx-lm, gguf, and the
official SDK.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_models import CONFIGS, profile_of, torch_model

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.output import Labels, Output, Regex, Schema
from paw_mlx.profiles import PROFILES, Profile
from paw_mlx.program import Program, Template


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The oracles' own deprecations are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def random_adapter(
    profile: Profile, sites: Iterable[Site] | None = None, *, mixed: bool = False
) -> Adapter:
    rng, loras = np.random.default_rng(5), {}
    for site in sites or profile.sites():
        (d_in, d_out), r = profile.shapes[site.module], 32
        if mixed and site.layer == 1:
            r = 16
        A, B = (rng.normal(0, 0.1, s).astype(np.float32) for s in ((r, d_in), (d_out, r)))
        alpha = 24.0 if mixed and "q_proj" in site.module else 8.0
        loras[site] = Lora(Matrix.from_array(A), Matrix.from_array(B), alpha)
    return Adapter(loras)


def weights(model: Any, profile: Profile) -> dict[Site, np.ndarray]:
    """Every site's weight, as (d_out, d_in); GPT-2's Conv1D stores the transpose."""
    found = {}
    for site in profile.sites():
        weight = model.get_submodule(profile.family.path(site)).weight.detach().numpy().copy()
        found[site] = weight.T if profile.family.name == "gpt2" else weight
    return found


@pytest.mark.parametrize("mixed", [False, True], ids=["one rank", "mixed ranks and alphas"])
def test_peft_merges_what_we_wrote(family: str, mixed: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    profile = profile_of(family)
    adapter = random_adapter(profile, mixed=mixed)
    formats.save_adapter(adapter, tmp_path / "a", "peft", profile)
    model = torch_model(family)
    before = weights(model, profile)
    after = weights(
        peft.PeftModel.from_pretrained(model, tmp_path / "a").merge_and_unload(), profile
    )
    for site in profile.sites():
        delta = adapter.delta(site)
        assert np.abs(delta).max() > 1e-3
        np.testing.assert_allclose(after[site] - before[site], delta, atol=2e-6)


def test_peft_loads_a_ragged_adapter_we_wrote(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    profile = profile_of("llama")
    ragged = [Site(0, "q_proj"), Site(2, "q_proj"), Site(2, "up_proj")]
    adapter = random_adapter(profile, ragged)
    formats.save_adapter(adapter, tmp_path / "a", "peft", profile)
    model = torch_model("llama")
    before = weights(model, profile)
    after = weights(
        peft.PeftModel.from_pretrained(model, tmp_path / "a").merge_and_unload(), profile
    )
    for site in profile.sites():
        delta = adapter.delta(site) if site in adapter.sites else np.zeros_like(before[site])
        np.testing.assert_allclose(after[site] - before[site], delta, atol=2e-6)


PATTERNS = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "rank_pattern": {"rank_pattern": {r"layers.1.self_attn.q_proj": 8, "k_proj": 2}},
    "alpha_pattern": {"alpha_pattern": {r".*\.2\..*q_proj": 3, "down_proj": 40}},
    "both, with rslora": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 8},
        "alpha_pattern": {"q_proj": 5, "down_proj": 7},
    },
    "some layers": {"layers_to_transform": [0, 2]},
    "a regex": {"target_modules": r".*\.(q|k|down)_proj"},
    "every linear module": {"target_modules": "all-linear"},
    "without some": {"exclude_modules": ["k_proj"]},
}


@pytest.mark.parametrize("options", PATTERNS.values(), ids=PATTERNS)
def test_we_read_what_peft_wrote(options: dict[str, Any], tmp_path: Path) -> None:
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    targets = {"target_modules": ["q_proj", "k_proj", "down_proj"]}
    lora = peft.LoraConfig(**{"r": 4, "lora_alpha": 16, **targets, **options})
    model = peft.get_peft_model(torch_model("llama"), lora)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "a")
    adapter = formats.load_adapter(tmp_path / "a")
    profile = profile_of("llama")
    found = 0
    for site in profile.sites():
        module = model.base_model.model.get_submodule(profile.family.path(site))
        if isinstance(module, peft.tuners.lora.Linear):
            delta = module.get_delta_weight("default").detach().numpy()
            np.testing.assert_allclose(adapter.delta(site), delta, rtol=1e-5, atol=1e-6)
            found += 1
    assert found == len(adapter.sites) > 0


@pytest.mark.parametrize("partial", [False, True], ids=["every layer", "a middle layer"])
def test_mlx_lm_loads_what_we_wrote(family: str, partial: bool, tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    pytest.importorskip("mlx_lm")
    from importlib import import_module

    from mlx_lm.tuner.utils import load_adapters

    profile = profile_of(family)
    sites = [site for site in profile.sites() if site.layer == 1 or not partial]
    adapter = random_adapter(profile, sites, mixed=True)
    formats.save_adapter(adapter, tmp_path / "a", "mlx", profile)
    module = import_module(f"mlx_lm.models.{family}")
    extra = {"rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": True}
    gpt2 = {"n_ctx": 128, "n_positions": 128, "layer_norm_epsilon": 1e-5}
    known = {"model_type": family, **CONFIGS[family], **(gpt2 if family == "gpt2" else extra)}
    model = load_adapters(module.Model(module.ModelArgs.from_dict(known)), str(tmp_path / "a"))
    paths = {name: m for name, m in model.named_modules() if hasattr(m, "lora_a")}
    layers = {"gpt2": "model.h"}.get(profile.family.name, profile.family.layers)
    for site in profile.sites():
        path = f"{layers}.{site.layer}.{profile.family.paths[site.module]}"
        delta = np.zeros(profile.shapes[site.module][::-1], np.float32)
        if path in paths:
            delta = np.array((paths[path].scale * paths[path].lora_b.T) @ paths[path].lora_a.T)
        want = adapter.delta(site) if site in adapter.sites else np.zeros_like(delta)
        np.testing.assert_allclose(delta, want, atol=2e-6)
    assert mx.isfinite(model(mx.array([[1, 2, 3]]))).all().item()


@pytest.mark.parametrize("dtype", ["f32", "f16", "q4_0"])
def test_gguf_reads_what_we_wrote(family: str, dtype: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    profile = profile_of(family)
    adapter = random_adapter(profile)
    formats.save_adapter(adapter, tmp_path / "a.gguf", "gguf", profile, dtype)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.get_field("general.type").contents() == "adapter"
    assert reader.get_field("adapter.type").contents() == "lora"
    assert reader.get_field("adapter.lora.alpha").contents() == 8.0
    assert reader.get_field("general.architecture").contents() == family
    found = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in reader.tensors
    }
    assert len(found) == 2 * len(adapter.sites)
    heads = {"q_proj": 2, "k_proj": 1} if family == "llama" else {}
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    for site, lora in adapter.sites.items():
        name = f"blk.{site.layer}.{profile.family.gguf[site.module]}.weight.lora_"
        A, B = (
            gguf.quants.dequantize(gguf.quants.quantize(m.dense(), kind), kind)
            for m in (lora.A, lora.B)
        )
        if num := heads.get(site.module):
            B = B.reshape(num, 2, len(B) // num // 2, -1).swapaxes(1, 2).reshape(B.shape)
        assert np.array_equal(found[name + "a"], A)
        assert np.array_equal(found[name + "b"], B)


@pytest.fixture
def sdk_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """The official SDK's own import of a program's file, into a cache that is the test's."""
    pytest.importorskip("programasweights")
    from programasweights import config
    from programasweights.local_program import import_local_program

    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(config, "get_cache_dir", lambda: tmp_path / "cache")
    return import_local_program


@pytest.mark.parametrize("dtype", ["q4_0", "f16", "f32"])
def test_official_sdk_accepts_our_programs(
    dtype: str, tmp_path: Path, sdk_import: Callable[[Path], Path]
) -> None:
    profile = PROFILES["qwen3-0.6b"]
    program = Program(
        Template("Say it louder.\n\n[INPUT]\n", "\n[END_INPUT]"),
        random_adapter(profile, [Site(27, "k_proj")]),
        "Qwen/Qwen3-0.6B",
        spec="Say it louder.",
        pseudo_program="Say it louder.",
    )
    formats.save(program, tmp_path / "p.paw", dtype)
    folder = sdk_import(tmp_path / "p.paw")
    assert (folder / "prompt_template.txt").read_text() == program.template.text
    assert (folder / "adapter.gguf").read_bytes().startswith(b"GGUF")


@pytest.mark.parametrize(
    "output",
    [
        Labels(("ALERT", "QUIET", "Äußerst still"), temperature=1.3, threshold=0.8, otherwise="?"),
        Labels(tuple(f"intent {n}" for n in range(3000))),
        Schema.of({"type": "object", "properties": {"vision": {"enum": ["image", None]}}}),
        Regex(r"[A-Z]{2}\d+|NONE"),
    ],
    ids=["labels", "3000 labels", "schema", "regex"],
)
def test_official_sdk_accepts_our_typed_programs(
    output: Output, tmp_path: Path, sdk_import: Callable[[Path], Path]
) -> None:
    from programasweights import cache

    program = Program(
        Template("Say it louder.\n\n[INPUT]\n", "\n[END_INPUT]"),
        random_adapter(PROFILES["qwen3-0.6b"], [Site(27, "k_proj")]),
        "Qwen/Qwen3-0.6B",
        spec="Say it louder.",
        output=output,
    )
    formats.save(program, tmp_path / "p.paw")
    folder = sdk_import(tmp_path / "p.paw")
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["output"] == output.record()
    assert meta["program_id"] == program.digest()
    cache.require_text_execution(meta)  # as PawFunction does before it loads a base
    assert not cache.declares_vision(meta)
    assert cache.is_valid_adapter_file(folder / "adapter.gguf")
    assert formats.load(folder).output == output
