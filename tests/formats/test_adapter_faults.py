"""What an adapter may lack, contradict or carry too much of, layout by layout."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paw_mlx import formats
from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.errors import AdapterMismatch, FormatError
from paw_mlx.formats.peft_refusals import REFUSED
from paw_mlx.profiles import Profile

Edit = Callable[..., Path]
SAFETENSORS = {"peft": "adapter_model.safetensors", "mlx": "adapters.safetensors"}


@pytest.fixture(params=["peft", "mlx"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def edited(llama: Profile, make: Callable[..., Adapter], tmp_path: Path) -> Edit:
    """Save an adapter, change its config and tensors, and give its path."""

    def edit(
        layout: str,
        change: Callable[[dict[str, Any]], None] = lambda config: None,
        tensors: Callable[[dict[str, np.ndarray]], None] = lambda tensors: None,
        **options: Any,
    ) -> Path:
        from safetensors.numpy import load_file, save_file

        folder = tmp_path / "a"
        formats.save_adapter(make(llama, **{"rank": 4, **options}), folder, layout, llama)
        config = json.loads((folder / "adapter_config.json").read_text())
        change(config)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        found = load_file(folder / SAFETENSORS[layout])
        tensors(found)
        save_file(found, folder / SAFETENSORS[layout])
        return folder

    return edit


def refused(path: Path, sentence: str, error: type[FormatError] = FormatError) -> FormatError:
    start = time.perf_counter()
    with pytest.raises(error, match=sentence) as caught:
        formats.load_adapter(path)
    assert time.perf_counter() - start < 1
    return caught.value


def test_absent_tensors_are_listed(edited: Edit, layout: str) -> None:
    def drop(tensors: dict[str, np.ndarray]) -> None:
        for name in [n for n in tensors if "layers.1." in n]:
            del tensors[name]

    refused(edited(layout, tensors=drop), "7 sites should be there.*1.down_proj.*2 more")


def test_absent_last_layer_is_noticed_where_the_base_is_known(
    edited: Edit, llama: Profile, layout: str
) -> None:
    def drop(tensors: dict[str, np.ndarray]) -> None:
        for name in [n for n in tensors if "layers.2." in n]:
            del tensors[name]

    path = edited(layout, tensors=drop)
    with pytest.raises(AdapterMismatch, match="7 sites should be there"):
        formats.load_adapter(path, llama)


def test_half_pair_is_listed(edited: Edit, layout: str) -> None:
    def drop(tensors: dict[str, np.ndarray]) -> None:
        del tensors[next(n for n in tensors if "lora_a" in n.lower() and "0.self_attn.q" in n)]

    refused(edited(layout, tensors=drop), "1 sites are half there: 0.q_proj has no A")


def test_unknown_tensors_are_listed(edited: Edit, layout: str) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["base_model.model.lm_head.lora_A.weight"] = np.zeros((4, 4), np.float32)
        tensors["what\x1b[2J"] = np.zeros((4, 4), np.float32)

    error = refused(edited(layout, tensors=add), "2 tensors are no A or B", AdapterMismatch)
    assert "\x1b" not in str(error)


def test_ranks_of_a_and_b_that_differ_are_listed(edited: Edit, layout: str) -> None:
    def shrink(tensors: dict[str, np.ndarray]) -> None:
        name = next(n for n in tensors if "lora_b" in n.lower() and "0.self_attn.q" in n)
        axis = 1 if layout == "peft" else 0
        tensors[name] = np.ascontiguousarray(np.delete(tensors[name], 0, axis))

    refused(edited(layout, tensors=shrink), "ranks of A and B differ at 1 sites: 0.q_proj")


def test_a_rank_that_is_none_of_low_rank_is_refused() -> None:
    def lora(rank: int, d_in: int, d_out: int) -> Lora:
        halves = [np.zeros(shape, np.float16) for shape in ((rank, d_in), (d_out, rank))]
        return Lora(*map(Matrix.from_array, halves), 1.0)

    for rank, d_in, d_out in ((256, 8, 16), (400, 300, 400)):
        assert Adapter({Site(0, "q_proj"): lora(rank, d_in, d_out)}).ranks == (rank,)
    for rank, d_in, d_out in ((257, 8, 16), (401, 300, 400), (401, 400, 300)):
        with pytest.raises(AdapterMismatch, match=rf"0.q_proj: rank {rank} of {d_in} inputs"):
            Adapter({Site(0, "q_proj"): lora(rank, d_in, d_out)})


def test_rank_the_config_contradicts_is_refused(edited: Edit, layout: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config.get("lora_parameters", config)["r" if layout == "peft" else "rank"] = 8

    refused(edited(layout, change), "the rank 8", AdapterMismatch)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_tensor_of_another_dtype_is_refused(edited: Edit, layout: str, dtype: type) -> None:
    def cast(tensors: dict[str, np.ndarray]) -> None:
        name = next(iter(tensors))
        tensors[name] = tensors[name].astype(dtype)

    refused(edited(layout, tensors=cast), "not a matrix of F32, F16 or BF16")


def test_adapter_of_another_base_is_refused(edited: Edit, layout: str) -> None:
    def change(config: dict[str, Any]) -> None:
        key = "base_model_name_or_path" if layout == "peft" else "model"
        config[key] = "Qwen/Qwen3-0.6B"

    def keep_all(config: dict[str, Any]) -> None:
        change(config)
        config["num_layers"] = 3

    refused(edited(layout, keep_all), "qwen3-0.6b|should be there", AdapterMismatch)


# --- PEFT --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", REFUSED)
def test_peft_feature_that_is_no_plain_lora_is_refused_with_its_reason(
    edited: Edit, key: str
) -> None:
    error = refused(edited("peft", lambda c: c.update({key: ["x"]})), key)
    assert REFUSED[key].reason in str(error)
    assert error.hints == [REFUSED[key].remedy]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"bias": "all"}, "bias 'all'"),
        ({"init_lora_weights": "pissa_niter_4"}, "changed the base"),
        ({"lora_alpha": None}, "no lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', not a number"),
        ({"lora_alpha": True}, "lora_alpha is True"),
        ({"lora_alpha": 1e300}, "not a finite float32"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'"),
        ({"target_modules": None}, "target_modules is None"),
        ({"target_modules": "(a+)+$"}, "too elaborate"),
        ({"target_modules": "(.*)(.*)(.*)(.*)(.*)(.*)x"}, "too elaborate"),
        ({"target_modules": "(("}, "invalid pattern"),
        ({"rank_pattern": {"(x+)+y": 4}}, "too elaborate"),
        ({"rank_pattern": [4]}, "rank_pattern is"),
        ({"rank_pattern": {"q_proj": 8}}, "0.q_proj the rank 8"),
        ({"rank_pattern": {f".*{i}": 4 for i in range(40)}}, "40 of them regular"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern is None"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path is 7"),
    ],
)
def test_peft_config_is_refused_with_the_reason(
    edited: Edit, change: dict[str, Any], sentence: str
) -> None:
    refused(edited("peft", lambda config: config.update(change)), sentence)


def test_peft_pickle_is_never_opened(edited: Edit) -> None:
    folder = edited("peft")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "pickle" in refused(folder, "no adapter_model.safetensors").hints[0]


@pytest.mark.parametrize(
    ("targets", "more"),
    [
        ("all-linear", {}),
        (r".*\.(q|k|v|o|gate|up|down)_proj", {}),
        (["self_attn.q_proj", "k_proj", "v_proj", "o_proj", "mlp.gate_proj", "up_proj",
          "down_proj"], {"layers_to_transform": [0, 1, 2]}),
        (["lm_head", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
          "down_proj"], {"exclude_modules": ["lm_head"]}),
    ],
)  # fmt: skip
def test_peft_targets_may_be_written_in_all_its_ways(
    edited: Edit, targets: Any, more: dict[str, Any]
) -> None:
    path = edited("peft", lambda config: config.update({"target_modules": targets, **more}))
    assert len(formats.load_adapter(path).sites) == 21


def test_gpt2_targets_may_be_the_mappers_names(any_base: Profile, make, tmp_path: Path) -> None:
    formats.save_adapter(make(any_base), tmp_path / "a", "peft", any_base)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    config["target_modules"] = list(any_base.family.modules)
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    assert len(formats.load_adapter(tmp_path / "a").sites) == 3 * len(any_base.shapes)


def test_peft_layers_that_were_left_out_are_not_missed(edited: Edit) -> None:
    sites = [Site(i, m) for i in (0, 2) for m in ("q_proj", "v_proj")]
    change = {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 2]}
    path = edited("peft", lambda config: config.update(change), sites=sites)
    assert sorted(formats.load_adapter(path).sites) == sites


def test_peft_modules_that_were_excluded_are_not_missed(edited: Edit) -> None:
    sites = [Site(i, "q_proj") for i in range(3)]
    change = {"target_modules": ["q_proj", "k_proj"], "exclude_modules": ["k_proj"]}
    path = edited("peft", lambda config: config.update(change), sites=sites)
    assert sorted(formats.load_adapter(path).sites) == sites


def test_peft_rslora_divides_by_the_root_of_the_rank(edited: Edit) -> None:
    change = {"use_rslora": True, "lora_alpha": 6, "alpha_pattern": {"v_proj": 10}}
    adapter = formats.load_adapter(edited("peft", lambda config: config.update(change)))
    assert adapter.sites[Site(0, "q_proj")].scale == 3.0
    assert adapter.sites[Site(0, "v_proj")].scale == 5.0


# --- MLX ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda c: c.update(fine_tune_type="dora"), "fine_tune_type is 'dora'"),
        (lambda c: c.pop("lora_parameters"), "no lora_parameters"),
        (lambda c: c["lora_parameters"].pop("scale"), "no scale"),
        (lambda c: c["lora_parameters"].pop("rank"), "no rank"),
        (lambda c: c["lora_parameters"].update(scale="20"), "scale is '20'"),
        (lambda c: c["lora_parameters"].update(keys="q_proj"), "keys is"),
        (lambda c: c["lora_parameters"].update(keys=["lm_head"]), "no such linear module"),
        (lambda c: c.pop("num_layers"), "num_layers is None"),
    ],
)
def test_mlx_config_is_refused_with_the_reason(
    edited: Edit, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    refused(edited("mlx", change), sentence)


@pytest.mark.parametrize("num_layers", [-1, 0, 3, 16])
def test_mlx_counts_all_layers_in_its_ways(edited: Edit, num_layers: int) -> None:
    path = edited("mlx", lambda config: config.update(num_layers=num_layers))
    assert len(formats.load_adapter(path).sites) == 21


def test_mlx_without_keys_means_every_module(edited: Edit) -> None:
    sites = [Site(i, "q_proj") for i in range(3)]
    path = edited("mlx", lambda config: config["lora_parameters"].pop("keys"), sites=sites)
    refused(path, "18 sites should be there")


@pytest.mark.parametrize("num_layers", [1, -1])
def test_mlx_keys_may_be_whole_paths(edited: Edit, num_layers: int) -> None:
    def change(config: dict[str, Any]) -> None:
        config["num_layers"] = num_layers
        config["lora_parameters"]["keys"] = ["model.layers.1.self_attn.q_proj", "mlp.up_proj"]

    def keep(tensors: dict[str, np.ndarray]) -> None:
        for name in {*tensors} - {*kept}:
            del tensors[name]

    sites = [Site(i, m) for i in range(3) for m in ("q_proj", "up_proj")]
    first = 0 if num_layers < 0 else 2
    paths = ["1.self_attn.q_proj", *(f"{i}.mlp.up_proj" for i in range(first, 3))]
    kept = [f"model.layers.{path}.lora_{half}" for path in paths for half in "ab"]
    adapter = formats.load_adapter(edited("mlx", change, keep, sites=sites))
    assert {str(site) for site in adapter.sites} == {
        "1.q_proj",
        *(f"{i}.up_proj" for i in range(first, 3)),
    }
    kept = [name for name in kept if "q_proj" not in name]
    refused(edited("mlx", change, keep, sites=sites), "1 sites should be there.*1.q_proj")


# --- GGUF --------------------------------------------------------------------------------

Keys = dict[str, Any]
PLAIN: Keys = {
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 1,
}


def write_gguf(path: Path, keys: Keys, sites: list[str], arch: str = "llama") -> Path:
    import gguf

    writer = gguf.GGUFWriter(path, arch)
    for key, value in keys.items():
        kind = {str: "string", float: "float32", int: "uint32"}[type(value)]
        getattr(writer, f"add_{kind}")(key, value)
    for site in sites:
        for half in "ab":
            writer.add_tensor(f"{site}.weight.lora_{half}", np.ones((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def without(*names: str) -> Keys:
    return {key: value for key, value in PLAIN.items() if key not in names}


@pytest.mark.parametrize(
    ("keys", "sites", "sentence"),
    [
        (without("adapter.lora.alpha"), ["blk.0.attn_q"], "no adapter.lora.alpha"),
        (PLAIN | {"adapter.lora.alpha": "8"}, ["blk.0.attn_q"], "alpha is '8', not a number"),
        (PLAIN | {"adapter.lora.alpha": float("nan")}, ["blk.0.attn_q"], "not a finite"),
        (PLAIN | {"general.type": "model"}, ["blk.0.attn_q"], "not a LoRA adapter"),
        (PLAIN | {"adapter.type": "control"}, ["blk.0.attn_q"], "not a LoRA adapter"),
        (PLAIN, ["blk.0.attn_q", "token_embd"], "2 tensors are no A or B"),
        (PLAIN, ["blk.9999.attn_q"], "2 tensors are no A or B"),
        (PLAIN, [], "no A and B at all"),
        (PLAIN, ["blk.0.attn_q", "blk.2.attn_q"], "1 sites should be there.*1.q_proj"),
        (PLAIN | {"llama.attention.head_count": 7}, ["blk.0.attn_q"], "7 heads do not fit"),
        (PLAIN | {"llama.attention.head_count": 0}, ["blk.0.attn_q"], "not positive"),
    ],
)
def test_gguf_adapter_is_refused_with_the_reason(
    tmp_path: Path, keys: Keys, sites: list[str], sentence: str
) -> None:
    refused(write_gguf(tmp_path / "a", keys, sites), sentence)


def test_gguf_of_another_architecture_is_refused(tmp_path: Path, llama: Profile) -> None:
    path = write_gguf(tmp_path / "a", PLAIN, ["blk.0.attn_q"], "mamba")
    assert "qwen3" in refused(path, "'mamba' is not supported").hints[0]
    path = write_gguf(tmp_path / "b", PLAIN, ["blk.0.attn_q"], "qwen3")
    with pytest.raises(AdapterMismatch, match="for qwen3, and tiny is llama"):
        formats.load_adapter(path, llama)


def test_gguf_alpha_of_zero_means_a_scale_of_one(tmp_path: Path) -> None:
    keys = PLAIN | {"adapter.lora.alpha": 0.0}
    path = write_gguf(tmp_path / "a", keys, ["blk.0.attn_v"])
    assert formats.load_adapter(path).scales == (1.0,)


def test_gguf_row_order_comes_from_the_file_the_profile_or_an_error(
    tmp_path: Path, llama: Profile
) -> None:
    keys = without("llama.attention.head_count", "llama.attention.head_count_kv")
    path = write_gguf(tmp_path / "a", keys, ["blk.0.attn_q"])
    assert "--interpreter" in refused(path, "how many heads").hints[0]
    assert formats.load_adapter(path, llama).ranks == (32,)
    # v has no rotary embedding, so its rows need no order.
    formats.load_adapter(write_gguf(tmp_path / "b", keys, ["blk.0.attn_v"]))
    other = write_gguf(tmp_path / "c", PLAIN | {"llama.attention.head_count": 4}, ["blk.0.attn_q"])
    with pytest.raises(AdapterMismatch, match=r"head counts \(4, 1\), and tiny has \(2, 1\)"):
        formats.load_adapter(other, llama)


def test_gguf_row_order_comes_from_the_known_base_whose_sizes_match(
    tmp_path: Path, make: Callable[..., Adapter]
) -> None:
    import gguf

    from paw_mlx.profiles import PROFILES

    base = PROFILES["smollm2-135m"]
    adapter = make(base, rank=1, sites=[Site(0, "q_proj"), Site(0, "k_proj")])
    formats.save_adapter(adapter, tmp_path / "ours", "gguf", base)
    reader = gguf.GGUFReader(tmp_path / "ours")
    writer = gguf.GGUFWriter(tmp_path / "bare", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    got = formats.load_adapter(tmp_path / "bare")
    for site in adapter.sites:
        assert np.array_equal(got.delta(site), adapter.delta(site))
