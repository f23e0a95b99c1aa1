"""Adapters that peft itself makes: what it computes is what we read, and the rest is refused.

Every option of `LoraConfig` that a plain LoRA can have, on tiny models of every family, saved
as safetensors and as a torch pickle; and what peft can save and we refuse, made by peft too,
with the way out that the refusal names, taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_models import CONFIGS, profile_of, torch_model

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Site
from paw_mlx.convert import torch_adapter
from paw_mlx.errors import FormatError, OptionError, UnknownLayout
from paw_mlx.formats.peft_refusals import REFUSED, REFUSED_TYPES
from paw_mlx.profiles import Profile

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")


def randomized(model: Any, scale: float = 0.1) -> Any:
    """The same model with weights of its own in everything that is trained."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale)
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_B" in name:  # peft does not train all of them
                parameter.copy_(torch.randn_like(parameter) * scale)
    return model.eval()


def deltas(model: Any, adapter: str = "default") -> dict[str, np.ndarray]:
    """What peft adds to each weight, (d_out, d_in), by its path in the base."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, peft.tuners.lora.LoraLayer) and adapter in module.scaling:
            delta = module.get_delta_weight(adapter).detach().float().numpy()
            path = name.split("base_model.model.")[-1]
            found[path] = delta.T if module.fan_in_fan_out else delta
    return found


def assert_same(adapter: Adapter, expected: dict[str, np.ndarray], family: str) -> None:
    """Assert that an adapter has the sites of `expected`, and its deltas."""
    is_exact = adapter.dtypes == ("f32",)  # else peft multiplies in the adapter's own dtype
    assert len(adapter.sites) == len(expected) > 0
    for path, delta in expected.items():
        full = path if path.startswith(("model.", "transformer.")) else f"model.{path}"
        if family == "gpt2" and not path.startswith("transformer."):
            full = f"transformer.{path}"
        site = profile_of(family).family.site_of_path(full)
        assert site is not None, path
        largest = np.abs(delta).max()
        assert largest > 1e-3
        # What float32 sums are off by goes with what is summed, also where little is left of it.
        tolerance = {"rtol": 1e-5, "atol": 1e-6 * max(1.0, largest)}
        if not is_exact:
            tolerance = {"rtol": 2e-2, "atol": 2e-3}
        np.testing.assert_allclose(adapter.delta(site), delta, **tolerance)


def read(folder: Path, profile: Profile | None = None) -> Adapter:
    """Read what peft saved, in whichever of its two files."""
    if torch_adapter.is_torch(folder):
        assert not (folder / "adapter_model.safetensors").exists()
        return torch_adapter.read(folder, profile).adapter
    return formats.load_adapter(folder, profile)


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[True, False], ids=["safetensors", "bin"])
def safe(request: pytest.FixtureRequest) -> bool:
    return request.param


QKD = ["q_proj", "k_proj", "down_proj"]
LLAMAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "ranks by path": {"rank_pattern": {"model.layers.1.self_attn.q_proj": 8, "k_proj": 2}},
    "alphas by regex": {"alpha_pattern": {r".*\.2\..*q_proj": 3, "down_proj": 40}},
    "alphas by anchor": {"alpha_pattern": {"^model.layers.1.*": 3, "^layers.2": 7}},
    "first of two alphas": {"alpha_pattern": {r"layers\.0\..*": 3, "q_proj": 40}},
    "ranks and alphas with rsLoRA": {
        "use_rslora": True,
        "rank_pattern": {"q_proj": 8},
        "alpha_pattern": {"q_proj": 5, "down_proj": 7.5},
    },
    "some layers": {"layers_to_transform": [0, 2]},
    "one layer": {"layers_to_transform": 1},
    "some layers, named": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "some layers, named in a list": {"layers_to_transform": [1], "layers_pattern": ["h", "layers"]},
    "some layers and a path": {
        "layers_to_transform": [1],
        "target_modules": ["q_proj", "model.layers.0.mlp.up_proj"],
    },
    "a regex": {"target_modules": r".*\.(q|k|down)_proj"},
    "a long regex": {
        "target_modules": r"(?:.*?(?:vision|image|language|text).*?(?:self_attn|attention|attn|mlp"
        r"|feed_forward|ffn|dense).*?(?:q_proj|k_proj|v_proj|o_proj).*?)|(?:\bmodel\.layers\."
        r"[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\."
        r"(?:(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)))"
    },
    "every linear module": {"target_modules": "all-linear"},
    "without some": {"exclude_modules": ["k_proj", "model.layers.2.mlp.down_proj"]},
    "without what a regex says": {"exclude_modules": r".*layers\.1\..*"},
    "other beginnings": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "MiCA": {"init_lora_weights": "mica"},
    "peft's own choice": {"target_modules": None},
}
GPT2S: dict[str, dict[str, Any]] = {
    "plain": {},
    "fan in, fan out": {"fan_in_fan_out": True},
    "rsLoRA": {"use_rslora": True, "fan_in_fan_out": True},
    "ranks and alphas": {
        "rank_pattern": {"attn.c_proj": 8, r"h.1.mlp.c_fc": 2},
        "alpha_pattern": {"^transformer.h.2": 3, "mlp.c_proj": 40},
    },
    "one layer, named": {"layers_to_transform": [2], "layers_pattern": "h"},
    "a regex": {"target_modules": r".*\.attn\.c_.*"},
    "every linear module": {"target_modules": "all-linear"},
    "without some": {"exclude_modules": ["mlp.c_proj"]},
    "peft's own choice": {"target_modules": None},
}
CASES = [
    *[("llama", name) for name in LLAMAS],
    *[("qwen3", name) for name in ("plain", "rsLoRA", "every linear module", "some layers")],
    *[("gpt2", name) for name in GPT2S],
]


def lora(family: str, **options: Any) -> Any:
    targets = ["c_attn", "c_fc", "c_proj"] if family == "gpt2" else QKD
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": targets, **options})


@pytest.mark.parametrize(("family", "name"), CASES)
def test_every_option_means_what_peft_computes(
    family: str, name: str, safe: bool, tmp_path: Path
) -> None:
    options = (GPT2S if family == "gpt2" else LLAMAS)[name]
    model = randomized(peft.get_peft_model(torch_model(family), lora(family, **options)))
    model.save_pretrained(tmp_path, safe_serialization=safe)
    for profile in (None, profile_of(family)):
        assert_same(read(tmp_path, profile), deltas(model), family)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(family: str, safe: bool, dtype: str, tmp_path: Path) -> None:
    model = randomized(peft.get_peft_model(torch_model(family), lora(family)))
    model.to(getattr(torch, dtype)).save_pretrained(tmp_path, safe_serialization=safe)
    adapter = read(tmp_path)
    assert adapter.dtypes == ({"float16": "f16", "bfloat16": "bf16"}[dtype],)
    assert_same(adapter, deltas(model), family)


def test_patterns_mean_the_paths_of_the_model_that_was_trained(
    family: str, safe: bool, tmp_path: Path
) -> None:
    """Without a head the paths are shorter, and an anchored pattern means those."""
    anchored = {"^h.1": 5, "^transformer.h.2": 3, "^layers.1": 5, "^model.layers.2": 3}
    options = {"alpha_pattern": {f"{key}.*": alpha for key, alpha in anchored.items()}}
    model = peft.get_peft_model(torch_model(family, head=False), lora(family, **options))
    randomized(model).save_pretrained(tmp_path, safe_serialization=safe)
    adapter = read(tmp_path, profile_of(family))
    assert adapter.alphas == (5, 16)
    assert_same(adapter, deltas(model), family)


def test_peft_inside_peft_is_seen_through(family: str, safe: bool, tmp_path: Path) -> None:
    inner = peft.get_peft_model(torch_model(family), lora(family, r=2), adapter_name="inner")
    model = peft.get_peft_model(inner, lora(family, alpha_pattern={"^base_model.*h.1.*": 3}))
    randomized(model).save_pretrained(tmp_path, safe_serialization=safe)
    adapter = read(tmp_path)
    assert_same(adapter, deltas(model), family)
    assert adapter.alphas == ((3, 16) if family == "gpt2" else (16,))


def test_several_adapters_are_read_one_by_one(safe: bool, tmp_path: Path) -> None:
    model = peft.get_peft_model(torch_model("llama"), lora("llama"))
    model.add_adapter("brief", lora("llama", r=2, target_modules=["up_proj"]))
    model.add_adapter("polite", lora("llama", r=3, use_rslora=True))
    randomized(model).save_pretrained(tmp_path / "all", safe_serialization=safe)
    for name, folder in (("default", ""), ("brief", "brief"), ("polite", "polite")):
        with torch.no_grad():
            expected = deltas(model, name)
        if name == "brief":  # not active, so not trained, so not randomized
            assert len(read(tmp_path / "all" / folder).sites) == 3
        else:
            assert_same(read(tmp_path / "all" / folder), expected, "llama")
    some = {"selected_adapters": ["brief", "polite"], "safe_serialization": safe}
    model.save_pretrained(tmp_path / "some", **some)
    with pytest.raises(UnknownLayout, match="'brief', 'polite'"):
        formats.load_adapter(tmp_path / "some")


SAVES: dict[str, Callable[[Any], Any]] = {
    "the model's state": lambda model: model.state_dict(),
    "the base's state": lambda model: model.base_model.model.state_dict(),
    "compiled": lambda model: torch.compile(model).state_dict(),
    "in a container": lambda model: torch.nn.Sequential(model).state_dict(prefix="module."),
    "its parameters": lambda model: {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    },
    "a checkpoint": lambda model: {
        "epoch": 1,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": torch.optim.AdamW(model.parameters()).state_dict(),
        "torch_rng_state": torch.get_rng_state(),
        "loss": torch.tensor(1.0, dtype=torch.float64),
    },
    "half of it": lambda model: {n: t.half() for n, t in model.state_dict().items()},
    "peft's selection": lambda model: {
        "model": peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    },
}


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
def test_torch_save_of_a_peft_model_is_read(
    family: str, save: Callable[[Any], Any], tmp_path: Path
) -> None:
    model = randomized(peft.get_peft_model(torch_model(family), lora(family)))
    if save is SAVES["in a container"]:
        expected = {path.removeprefix("0."): delta for path, delta in deltas(model).items()}
        state = {n.replace("module.0.", "module."): t for n, t in save(model).items()}
    else:
        expected, state = deltas(model), save(model)
    torch.save(state, tmp_path / "x.pt")
    assert torch_adapter.is_torch(tmp_path / "x.pt")
    with pytest.raises(OptionError, match="--alpha"):
        torch_adapter.read(tmp_path / "x.pt", None)
    assert_same(torch_adapter.read(tmp_path / "x.pt", None, alpha=16.0).adapter, expected, family)


def test_shards_of_a_peft_model_are_read(family: str, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    model = randomized(peft.get_peft_model(torch_model(family), lora(family)))
    hub.save_torch_model(
        model, tmp_path, max_shard_size="20KB", safe_serialization=False,
        filename_pattern="pytorch_model{suffix}.bin",
    )  # fmt: skip
    assert len(list(tmp_path.glob("*.bin"))) > 2
    adapter = torch_adapter.read(tmp_path, None, alpha=16.0).adapter
    assert_same(adapter, deltas(model), family)


# What is refused.

MERGE, SAVE_AS_LORA = "merge_and_unload", "save_as_lora"


def variants() -> dict[str, Callable[[], Any]]:
    """What peft can say in a LoraConfig and a plain LoRA cannot, by the key that says it."""
    config = peft.tuners.lora.config
    plain = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    block = {"target_modules_bd_a": ["q_proj"], "target_modules_bd_b": ["v_proj"], "nblocks": 2}
    options: dict[str, dict[str, Any]] = {
        "use_dora": {"use_dora": True},
        "bias": {"bias": "all"},
        "lora_bias": {"lora_bias": True},
        "modules_to_save": {"modules_to_save": ["lm_head"]},
        "trainable_token_indices": {"trainable_token_indices": [1, 2]},
        "layer_replication": {"layer_replication": [[0, 2], [1, 3]]},
        "target_parameters": {"target_modules": [], "target_parameters": ["mlp.up_proj.weight"]},
        "alora_invocation_tokens": {"alora_invocation_tokens": [1], "task_type": "CAUSAL_LM"},
        "init_lora_weights": {"init_lora_weights": "pissa"},
        "use_bdlora": {"use_bdlora": config.BdLoraConfig(**block)},
        "kasa_config": {"kasa_config": config.KasaConfig()},
        "velora_config": {"velora_config": config.VeloraConfig(num_groups=8)},
        "monteclora_config": {"monteclora_config": config.MontecloraConfig()},
    }
    return {key: partial(peft.LoraConfig, **{**plain, **more}) for key, more in options.items()}


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ADALORA": ("AdaLoraConfig", {"total_step": 10}),
    "BOFT": ("BOFTConfig", {"boft_block_size": 4}),
    "C3A": ("C3AConfig", {"block_size": 16}),
    "DELORA": ("DeloraConfig", {}),
    "FOURIERFT": ("FourierFTConfig", {"n_frequency": 20}),
    "GRALORA": ("GraloraConfig", {}),
    "HIRA": ("HiraConfig", {"r": 4}),
    "HRA": ("HRAConfig", {"r": 4}),
    "IA3": ("IA3Config", {"feedforward_modules": []}),
    "LN_TUNING": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
    "LOHA": ("LoHaConfig", {"r": 4}),
    "LOKR": ("LoKrConfig", {"r": 4}),
    "MISS": ("MissConfig", {"r": 4}),
    "OFT": ("OFTConfig", {"oft_block_size": 4, "r": 0}),
    "PSOFT": ("PsoftConfig", {"r": 4}),
    "RANDLORA": ("RandLoraConfig", {"r": 4}),
    "ROAD": ("RoadConfig", {"group_size": 8}),
    "SHIRA": ("ShiraConfig", {"r": 4}),
    "TINYLORA": ("TinyLoraConfig", {}),
    "TRAINABLE_TOKENS": (
        "TrainableTokensConfig",
        {"token_indices": [1, 2], "target_modules": ["embed_tokens"]},
    ),
    "UNILORA": ("UniLoraConfig", {}),
    "VBLORA": ("VBLoRAConfig", {"vector_length": 16, "num_vectors": 10, "topk": 2}),
    "VERA": ("VeraConfig", {"r": 4}),
    "WAVEFT": ("WaveFTConfig", {"n_frequency": 16}),
    "PREFIX_TUNING": ("PrefixTuningConfig", {"num_virtual_tokens": 4, "target_modules": None}),
    "PROMPT_TUNING": ("PromptTuningConfig", {"num_virtual_tokens": 4, "target_modules": None}),
    "P_TUNING": ("PromptEncoderConfig", {"num_virtual_tokens": 4, "target_modules": None}),
}


def other(kind: str) -> Any:
    name, options = OTHERS[kind]
    options = {"target_modules": ["q_proj", "v_proj"], **options}
    return getattr(peft, name)(
        task_type="CAUSAL_LM", **{k: v for k, v in options.items() if v is not None}
    )


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.tensor([[1, 5, 9, 2, 60, 33]])).logits.numpy()


def refused(model: Any, folder: Path, safe: bool) -> FormatError:
    model.save_pretrained(folder, safe_serialization=safe)
    with pytest.raises(FormatError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return caught.value


def assert_remedy_works(model: Any, remedy: str, folder: Path) -> None:
    """Take the way out that a refusal names, and assert that it is one."""
    if MERGE not in remedy and SAVE_AS_LORA not in remedy:
        return
    before = logits(model)
    assert np.abs(before - logits(torch_model("llama"))).max() > 1e-4
    if MERGE in remedy:
        merged = model.merge_and_unload()
        assert not [name for name in merged.state_dict() if "lora_" in name]
        np.testing.assert_allclose(logits(merged), before, atol=1e-4)
    else:
        from peft.tuners.lora import save_as_lora

        save_as_lora(folder, model, rank=0.999999)  # of the energy: almost nothing is lost
        plain = peft.PeftModel.from_pretrained(torch_model("llama"), folder)
        np.testing.assert_allclose(logits(plain), before, atol=5e-3)
        assert_same(read(folder), deltas(plain), "llama")


@pytest.mark.parametrize(("key", "config"), list(variants().items()), ids=variants())
def test_variant_is_refused_with_a_way_out_that_works(
    key: str, config: Callable[[], Any], safe: bool, tmp_path: Path
) -> None:
    model = randomized(peft.get_peft_model(torch_model("llama"), config()))
    error = refused(model, tmp_path / "a", safe)
    assert str(error).startswith(f"{key} ")
    assert REFUSED[key].reason in str(error)
    assert error.hints == [REFUSED[key].remedy]
    if safe and key != "init_lora_weights":
        assert_remedy_works(model, error.hints[0], tmp_path / "b")


@pytest.mark.parametrize("kind", OTHERS)
def test_other_peft_type_is_refused_with_a_way_out_that_works(
    kind: str, safe: bool, tmp_path: Path
) -> None:
    model = randomized(peft.get_peft_model(torch_model("llama"), other(kind)), 0.3)
    error = refused(model, tmp_path / "a", safe)
    assert str(error).startswith(f"peft_type is '{kind}': {REFUSED_TYPES[kind].reason}")
    assert error.hints == [REFUSED_TYPES[kind].remedy]
    if safe:
        assert_remedy_works(model, error.hints[0], tmp_path / "b")


def test_pissa_is_read_once_peft_has_converted_it(tmp_path: Path) -> None:
    config = lora("llama", init_lora_weights="pissa", r=2)
    model = peft.get_peft_model(torch_model("llama"), config)
    before = logits(torch_model("llama"))
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    model.peft_config["default"].init_lora_weights = "pissa"
    randomized(model)
    model.save_pretrained(
        tmp_path / "a", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
    )
    plain = peft.PeftModel.from_pretrained(torch_model("llama"), tmp_path / "a")
    np.testing.assert_allclose(logits(plain), logits(model), atol=1e-4)
    assert np.abs(logits(plain) - before).max() > 1e-3
    adapter = read(tmp_path / "a")
    assert adapter.ranks == (4,)
    assert_same(adapter, deltas(plain), "llama")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (["q_proj", "embed_tokens"], "embeddings, which are no linear module"),
        (["q_proj", "lm_head"], "1 tensors are whole weights of the base"),
    ],
)
def test_adapted_embeddings_and_heads_are_refused_by_name(
    targets: list[str], said: str, safe: bool, tmp_path: Path
) -> None:
    model = peft.get_peft_model(torch_model("llama"), peft.LoraConfig(r=4, target_modules=targets))
    error = refused(randomized(model), tmp_path, safe)
    assert said in str(error)
    assert targets[1] in str(error)
    assert error.hints


def test_saved_embeddings_are_refused_by_name_and_the_way_out_works(
    safe: bool, tmp_path: Path
) -> None:
    model = randomized(peft.get_peft_model(torch_model("llama"), lora("llama")))
    model.save_pretrained(tmp_path / "a", safe_serialization=safe, save_embedding_layers=True)
    with pytest.raises(FormatError, match=r"2 tensors are whole weights.*embed_tokens") as caught:
        read(tmp_path / "a")
    assert "save_embedding_layers=False" in caught.value.hints[0]
    model.save_pretrained(tmp_path / "b", safe_serialization=safe, save_embedding_layers=False)
    assert_same(read(tmp_path / "b"), deltas(model), "llama")


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_variant_in_a_bare_checkpoint_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    model = peft.get_peft_model(torch_model("llama"), lora("llama", **options))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "x.pt")
    with pytest.raises(FormatError, match="9 tensors are not supported"):
        torch_adapter.read(tmp_path / "x.pt", None, alpha=16.0)


def test_the_tables_know_all_that_this_peft_can_say() -> None:
    variants_of_peft = {
        field.name
        for field in dataclasses.fields(peft.LoraConfig)
        if field.metadata.get("is_lora_variant")
    }
    assert variants_of_peft <= set(REFUSED)
    known = {kind.value for kind in peft.PeftType}
    assert set(REFUSED_TYPES) - known == {"BONE"}  # which peft has renamed to MISS


def test_sites_are_named_as_the_families_do() -> None:
    assert profile_of("gpt2").family.site_of_path("transformer.h.1.mlp.c_proj") == Site(
        1, "mlp_c_proj"
    )
