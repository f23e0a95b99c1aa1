"""Published compilers become MLX compilers: exactly, streamed, resumable, and never half."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from mlx.utils import tree_flatten

from paw_mlx import FormatError, HubError, NotFound, OptionError, PawError
from paw_mlx.cli.convert_compiler import command
from paw_mlx.convert.checkpoint import convert_compiler, convert_mapper, is_converted
from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.interpreter.source import model_module

GOLDEN = Path(__file__).parent / "golden" / "compiler"
META = {
    "interpreter_model": "tiny-gpt2",
    "lora_rank": 4,
    "lora_alpha": 16.0,
    "lora_num_bases": 2,
    "prefix_steps": 8,
    "compiler_prompt_style": "minimal",
    "trained_steps": 7,
}
PACKED = "model.layers.1.mlp.up_proj"
TOKENS = mx.array([list(range(40, 60))])


# --- Published compilers, tiny -----------------------------------------------------------


def encoder(seed: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """A config, and bf16 tensors that make outputs vary."""
    config = tiny.config("qwen3") | {"intermediate_size": 128, "tie_word_embeddings": True}
    config |= changes
    module = model_module(config)
    model: Any = module.Model(module.Args.from_config(config))
    mx.random.seed(seed)
    tensors = {}
    for name, tensor in tree_flatten(model.parameters()):
        value = 0.6 * mx.random.normal(tensor.shape) / tensor.shape[-1] ** 0.25
        tensors[name] = (value + 1 if "norm" in name else value).astype(mx.bfloat16)
    return config, tensors


def mapper(hidden: int = 64, layers: int = 3) -> dict[str, np.ndarray]:
    """A mapper for two modules, with META's rank and number of bases."""
    sizes = {"c_attn": (32, 96), "c_fc": (32, 64)}
    rows = layers * len(sizes) * 2 * 2
    shapes: dict[str, tuple[int, ...]] = {
        "trunk.0.weight": (hidden, hidden),
        "trunk.0.bias": (hidden,),
        "coeff_head.weight": (rows, hidden),
        "coeff_head.bias": (rows,),
    }
    for module, (d_in, d_out) in sizes.items():
        shapes |= {f"A_bases_{module}": (2, 4, d_in), f"B_bases_{module}": (2, d_out, 4)}
    chance = np.random.default_rng(0)
    return {name: chance.normal(size=shape).astype("<f4") for name, shape in shapes.items()}


def write_pt(path: Path, tensors: dict[str, np.ndarray], storage: str = "FloatStorage") -> None:
    """What `torch.save(state_dict, path)` writes."""

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + value.to_bytes(4, "little") for value in values) + b"t"

    pickled = b"\x80\x02}("
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, array) in enumerate(tensors.items()):
            strides = tuple(stride // array.itemsize for stride in array.strides)
            pickled += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")
            pickled += f"ctorch\n{storage}\n".encode() + text(str(key)) + text("cpu")
            pickled += b"J" + array.size.to_bytes(4, "little") + b"tQK\0" + numbers(array.shape)
            pickled += numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
            archive.writestr(f"lora_mapper/data/{key}", array.tobytes())
        archive.writestr("lora_mapper/data.pkl", pickled + b"u.")
        archive.writestr("lora_mapper/byteorder", "little")


def write_upstream(folder: Path, seed: int = 0, **changes: Any) -> Path:
    config, tensors = encoder(seed, **changes)
    inner = folder / "compiler"
    inner.mkdir(parents=True)
    save(inner, tensors)
    (inner / "config.json").write_text(json.dumps(config))
    tiny.tokenizer().save(str(inner / "tokenizer.json"))
    (folder / "meta.json").write_text(json.dumps(META))
    write_pt(folder / "lora_mapper.pt", mapper(config["hidden_size"]))
    return folder


def save(inner: Path, tensors: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(inner / "model.safetensors"), tensors, {"format": "pt"})


def loaded(folder: Path) -> dict[str, mx.array]:
    """All tensors under a folder, by the index if it has one."""
    tensors: dict[str, mx.array] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= mx.load(str(file))
    return tensors


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same(a: mx.array, b: mx.array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_upstream(tmp_path / "paw-tiny")


# --- Values ------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "dtype"), [(16, mx.bfloat16), (32, mx.float32)])
def test_16_and_32_bits_keep_every_value(source, tmp_path, bits, dtype):
    out = convert_compiler(source, tmp_path / "out", bits=bits)
    before, after = loaded(source / "compiler"), loaded(out / "compiler")
    assert before.keys() == after.keys()
    assert all(same(after[name], tensor.astype(dtype)) for name, tensor in before.items())
    assert "quantization" not in json.loads((out / "compiler" / "config.json").read_text())


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_packed_layers_decode_within_the_bound(source, tmp_path, bits):
    out = convert_compiler(source, tmp_path / "out", bits=bits)
    before, after = loaded(source / "compiler"), loaded(out / "compiler")
    packed = {name for name, t in before.items() if t.ndim == 2 and ".layers." in name}
    assert len(packed) == 3 * 7
    for name, tensor in before.items():
        if name not in packed:
            assert same(after[name], tensor)  # the embedding and the norms
            continue
        stem = name.removesuffix("weight")
        parts = [after[stem + part] for part in ("weight", "scales", "biases")]
        assert [part.dtype for part in parts] == [mx.uint32, mx.bfloat16, mx.bfloat16]
        scales, biases = (part.astype(mx.float32) for part in parts[1:])
        decoded = mx.dequantize(parts[0], scales, biases, group_size=64, bits=bits)
        error = mx.abs(decoded - tensor).reshape(*scales.shape, 64).max(axis=-1)
        # A step, and what bf16 rounds off the scale, as often as the code counts it.
        assert (error <= mx.abs(scales) * (1 + 2**bits / 512)).all()
    config = json.loads((out / "compiler" / "config.json").read_text())
    assert config["quantization"] == {"group_size": 64, "bits": bits}


def test_each_layer_is_a_file_and_the_index_names_it(source, tmp_path):
    out = convert_compiler(source, tmp_path / "out")
    index = json.loads((out / "compiler" / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in (out / "compiler").glob("*.safetensors"))
    assert files == [f"model-0000{i}-of-00003.safetensors" for i in range(4)]
    for i, file in enumerate(files):
        names = set(mx.load(str(out / "compiler" / file)))
        assert names == {name for name, where in index["weight_map"].items() if where == file}
        outside = {"model.embed_tokens.weight", "model.norm.weight"}
        assert names == outside if i == 0 else all(f"model.layers.{i - 1}." in n for n in names)
    total = sum(tensor.nbytes for tensor in loaded(out / "compiler").values())
    assert index["metadata"]["total_size"] == total


def test_meta_and_texts_are_kept_and_nothing_else_is(source, tmp_path):
    inner = source / "compiler"
    for name in ("chat_template.jinja", "merges.txt", "tokenizer_config.json"):
        (inner / name).write_text('{"kept": "ü"}')
    for name in ("modeling.py", "pytorch_model.bin", "training_args.pt", "README.md"):
        (inner / name).write_text("not wanted")
    out = convert_compiler(source, tmp_path / "out", bits=6)
    made = {path.name for path in (out / "compiler").iterdir() if path.suffix != ".safetensors"}
    assert made == {"chat_template.jinja", "merges.txt", "tokenizer_config.json"} | {
        "config.json", "tokenizer.json", "model.safetensors.index.json"
    }  # fmt: skip
    for name in ("chat_template.jinja", "tokenizer.json"):
        assert (out / "compiler" / name).read_bytes() == (inner / name).read_bytes()
    meta = json.loads((out / "meta.json").read_text())
    conversion = meta.pop("paw_mlx")
    assert meta == META
    assert (conversion["bits"], conversion["group_size"]) == (6, 64)
    assert conversion["source"] == "paw-tiny"
    assert is_converted(out)
    assert not is_converted(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "paw-tiny"]


def test_a_compiler_of_the_hub_is_named_by_its_repo(tmp_path):
    cache = tmp_path / "models--some-one--paw-tiny" / "snapshots" / "0123abcd"
    out = convert_compiler(write_upstream(cache), tmp_path / "out")
    assert json.loads((out / "meta.json").read_text())["paw_mlx"]["source"] == "some-one/paw-tiny"


def test_layers_spread_over_shards_convert_alike(source, tmp_path):
    whole = convert_compiler(source, tmp_path / "whole")
    weights = source / "compiler" / "model.safetensors"
    tensors = dict(mx.load(str(weights)))
    mx.eval(tensors)
    weights.unlink()
    names = sorted(tensors, key=lambda name: name[::-1])  # no layer stays together
    for i, part in enumerate((names[::2], names[1::2])):
        file = source / "compiler" / f"model-0000{i + 1}-of-00002.safetensors"
        mx.save_safetensors(str(file), {name: tensors[name] for name in part})
    split = convert_compiler(source, tmp_path / "split")
    ours, theirs = loaded(split / "compiler"), loaded(whole / "compiler")
    assert ours.keys() == theirs.keys()
    assert all(same(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_a_compiler_that_torch_wrote_converts(tmp_path, kind):
    out = convert_compiler(GOLDEN / kind / "repo", tmp_path / "out", bits=16)
    before, after = loaded(GOLDEN / kind / "repo" / "compiler"), loaded(out / "compiler")
    assert before.keys() == after.keys()
    assert all(same(after[name], tensor) for name, tensor in before.items())
    tensors = mx.load(str(out / "mapper.safetensors"))
    with open_state_dict(GOLDEN / kind / "repo" / "lora_mapper.pt") as state:
        assert tensors.keys() == state.tensors.keys()
        assert all((np.array(tensors[name]) == state.read(name)).all() for name in tensors)


@pytest.mark.parametrize("tied", [True, False])
def test_mlx_lm_loads_what_was_converted(tmp_path, tied):
    mlx_lm = pytest.importorskip("mlx_lm.utils")
    source = write_upstream(tmp_path / "source", tie_word_embeddings=tied)
    inner = source / "compiler"
    if tied:  # some files repeat the embedding
        tensors = dict(mx.load(str(inner / "model.safetensors")))
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        mx.eval(tensors)
        save(inner, tensors)

    def scores(folder: Path) -> np.ndarray:
        model, _ = mlx_lm.load_model(folder)
        # Not its own head: an untied one is not converted.
        logits = model.model.embed_tokens.as_linear(model.model(TOKENS))
        return np.array(logits.astype(mx.float32))

    expected = scores(inner)
    assert expected.std(axis=1).min() > 0.1  # or all would be close to all
    whole = convert_compiler(source, tmp_path / "whole", bits=16)
    assert "lm_head.weight" not in loaded(whole / "compiler")
    assert (scores(whole / "compiler") == expected).all()
    packed = convert_compiler(source, tmp_path / "packed", bits=8)
    error = np.abs(scores(packed / "compiler") - expected).mean()
    assert 0 < error < 0.1 * np.abs(expected).mean()  # half of it is bfloat16's own


# --- The mapper --------------------------------------------------------------------------


def test_the_mapper_keeps_every_value_and_becomes_float32(tmp_path):
    tensors = mapper()
    write_pt(tmp_path / "f32.pt", tensors)
    halves = {name: array.astype("<f2") for name, array in tensors.items()}
    write_pt(tmp_path / "f16.pt", halves, "HalfStorage")
    tops = {name: (array.view("<u4") >> 16).astype("<u2") for name, array in tensors.items()}
    write_pt(tmp_path / "bf16.pt", tops, "BFloat16Storage")
    cut = {name: array.view("<u4") & 0xFFFF0000 for name, array in tensors.items()}
    for name, expected in (
        ("f32", tensors),
        ("f16", {n: a.astype("<f4") for n, a in halves.items()}),
        ("bf16", {n: a.view("<f4") for n, a in cut.items()}),
    ):
        convert_mapper(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors", META)
        found = mx.load(str(tmp_path / f"{name}.safetensors"))
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert found[key].dtype == mx.float32
            assert (np.array(found[key]) == array).all()


def test_the_mapper_is_never_in_memory_as_a_whole(tmp_path):
    tensors = mapper()
    for module in "abcdefgh":
        tensors[f"A_bases_{module}"] = np.ones((2, 4, 1 << 17), "<f4")
        tensors[f"B_bases_{module}"] = np.ones((2, 8, 4), "<f4")
    for part in ("weight", "bias"):  # ten modules of two bases
        tensors[f"coeff_head.{part}"] = np.ones((40, 64)[: 1 + (part == "weight")], "<f4")
    write_pt(tmp_path / "mapper.pt", tensors)
    tracemalloc.start()
    try:
        convert_mapper(tmp_path / "mapper.pt", tmp_path / "mapper.safetensors", META)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    largest = max(array.nbytes for array in tensors.values())
    assert largest <= peak < 1.5 * largest


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"trunk.0.bias": None}, r"trunk\.0\.bias is missing"),
        ({"trunk.2.bias": np.zeros(64, "<f4")}, r"'trunk\.2\.bias' is unknown"),
        ({"coeff_head.weight": np.zeros((24, 32), "<f4")}, r"is \(24, 32\), not \(24, 64\)"),
        ({"A_bases_c_fc": np.zeros((2, 8, 32), "<f4")}, r"is \(2, 8, 32\), not \(2, 4, 32\)"),
        ({"B_bases_c_fc": None}, "B_bases_c_fc is missing"),
        ({"B_bases_c_fc": np.zeros((3, 64, 4), "<f4")}, r"\(3, 64, 4\), not \(2, 64, 4\)"),
        (
            {"coeff_head.weight": np.zeros((26, 64), "<f4"), "coeff_head.bias": np.zeros(26, "f4")},
            "26 coefficients, which is no whole number of layers",
        ),
        ({"A_bases_c_attn": np.float32(1) + np.zeros((2, 4, 0), "<f4")}, "is empty"),
        ({"trunk.0.bias": np.full(64, np.nan, "<f4")}, "not finite"),
        (
            {"A_bases_c_attn": np.pad([[[-np.inf]]], ((0, 1), (0, 3), (0, 31))).astype("<f4")},
            "not finite",
        ),
    ],
)
def test_a_mapper_that_does_not_fit_is_refused(tmp_path, change, match):
    tensors = {n: a for n, a in (mapper() | change).items() if a is not None}
    write_pt(tmp_path / "mapper.pt", tensors)
    with pytest.raises(FormatError, match=match):
        convert_mapper(tmp_path / "mapper.pt", tmp_path / "mapper.safetensors", META)
    assert [path.name for path in tmp_path.iterdir()] == ["mapper.pt"]


# --- Memory ------------------------------------------------------------------------------


def peak_bytes(tmp_path: Path, layers: int, bits: int) -> tuple[int, int]:
    """The most memory a conversion takes, and what a layer's tensors have."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": layers}
    source = write_upstream(tmp_path / f"{layers}-{bits}", **sizes)
    tensors = loaded(source / "compiler")
    layer = sum(tensor.nbytes for name, tensor in tensors.items() if ".layers.0." in name)
    del tensors
    before = tiny.active_bytes()
    mx.reset_peak_memory()
    convert_compiler(source, tmp_path / f"{layers}-{bits}-out", bits=bits)
    return mx.get_peak_memory() - before, layer


# In layers: what is written of one, and one tensor as it came (a third of a layer).
@pytest.mark.parametrize(("bits", "at_most"), [(4, 0.65), (8, 0.95), (16, 1.1), (32, 2.4)])
def test_memory_stays_at_a_layer_however_many_there_are(tmp_path, bits, at_most):
    few, layer = peak_bytes(tmp_path, 6, bits)
    many, _ = peak_bytes(tmp_path, 24, bits)
    assert 0 < few < at_most * layer
    assert many < 1.1 * few


# --- Interrupts, reruns, company ---------------------------------------------------------


def test_an_interrupted_conversion_goes_on_where_it_stopped(source, tmp_path):
    whole = content(convert_compiler(source, tmp_path / "whole"))

    def interrupted(message: str) -> None:
        if "layer 2" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_compiler(source, tmp_path / "out", progress=interrupted)
    partial = tmp_path / ".out.partial"
    assert not (tmp_path / "out").exists()
    kept = {path.name: path.stat() for path in partial.rglob("*.safetensors")}
    assert kept.keys() == {"mapper.safetensors"} | {
        f"model-0000{i}-of-00003.safetensors" for i in (0, 1)
    }
    litter = partial / "compiler" / ".model-00002-of-00003.safetensors.xyz"  # of a killed process
    litter.mkdir()
    (litter / "half").write_text("half")
    said: list[str] = []
    out = convert_compiler(source, tmp_path / "out", progress=said.append)
    assert said == [
        "converting paw-tiny to 8 bits; 2 of 4 files are there",
        "converting layer 2 of 3",
        "converting layer 3 of 3",
    ]
    for path in out.rglob("*.safetensors"):
        if path.name in kept:
            was, now = kept[path.name], path.stat()
            assert (was.st_ino, was.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)
    assert content(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "paw-tiny", "whole"]


@pytest.mark.parametrize("other", ["bits", "weights", "mapper"])
def test_what_another_conversion_left_is_not_gone_on_from(source, tmp_path, other):
    def interrupted(message: str) -> None:
        if "layer 3" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_compiler(source, tmp_path / "out", progress=interrupted)
    if other == "weights":
        shutil.rmtree(source)
        write_upstream(source, seed=1)
    if other == "mapper":
        write_pt(source / "lora_mapper.pt", {n: a + 1 for n, a in mapper().items()})
    bits = 4 if other == "bits" else 8
    out = convert_compiler(source, tmp_path / "out", bits=bits)
    assert content(out) == content(convert_compiler(source, tmp_path / "fresh", bits=bits))


def test_what_is_done_is_returned_at_once_and_all_else_is_left_alone(source, tmp_path):
    out = convert_compiler(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    said: list[str] = []
    assert convert_compiler(source, out, progress=said.append) == out
    assert not said
    with pytest.raises(OptionError, match="is no conversion of paw-tiny to 4 bits"):
        convert_compiler(source, out, bits=4)
    with pytest.raises(OptionError, match="is converted already"):
        convert_compiler(out, tmp_path / "again")
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    for name in ("mine", "mine.txt"):
        with pytest.raises(OptionError, match="exists, and is no conversion"):
            convert_compiler(source, tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "mine.txt", "out", "paw-tiny"]


def test_processes_that_convert_the_same_do_not_collide(source, tmp_path):
    code = (
        "import sys; from pathlib import Path; import paw_mlx.interpreter;"
        "from paw_mlx.convert.checkpoint import convert_compiler;"
        "convert_compiler(Path(sys.argv[1]), Path(sys.argv[2]), progress=print)"
    )
    script = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    running = [
        subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120) for process in running]
    assert [(p.returncode, err) for p, (_, err) in zip(running, said, strict=True)] == [(0, "")] * 3
    assert len([line for out, _ in said for line in out.splitlines() if "layer 2" in line]) == 1
    assert content(tmp_path / "out") == content(convert_compiler(source, tmp_path / "fresh"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "out", "paw-tiny"]


# --- Faults ------------------------------------------------------------------------------


def changed(source: Path, **tensors: Any) -> None:
    """Replace tensors of the encoder, by name with `__` for a dot; None removes."""
    found = dict(mx.load(str(source / "compiler" / "model.safetensors")))
    found |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in found.items() if tensor is not None}
    mx.eval(found)
    save(source / "compiler", found)


def config(source: Path, **changes: Any) -> None:
    path = source / "compiler" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def meta(source: Path, **changes: Any) -> None:
    values = {key: value for key, value in (META | changes).items() if value is not ...}
    (source / "meta.json").write_text(json.dumps(values))


NORM = "model__norm__weight"
FAULTS: list[tuple[Any, type[PawError], str]] = [
    (lambda s: shutil.rmtree(s), NotFound, "is no folder"),
    (lambda s: (s / "meta.json").unlink(), NotFound, r"it has no meta\.json"),
    (lambda s: (s / "lora_mapper.pt").unlink(), NotFound, r"it has no lora_mapper\.pt"),
    (lambda s: (s / "compiler/tokenizer.json").unlink(), NotFound, r"no compiler/tokenizer\.json"),
    (lambda s: (s / "compiler/config.json").write_text("{"), FormatError, "JSON"),
    (lambda s: (s / "lora_mapper.pt").write_bytes(b"PK"), FormatError, r"lora_mapper\.pt"),
    (lambda s: (s / "compiler/model.safetensors").unlink(), FormatError, "35 tensors do not fit"),
    (lambda s: meta(s, lora_rank=...), FormatError, "lora_rank"),
    (lambda s: meta(s, lora_num_bases=0), FormatError, "lora_num_bases as 0"),
    (lambda s: meta(s, lora_alpha="16"), FormatError, "lora_alpha"),
    (lambda s: meta(s, prefix_steps=True), FormatError, "prefix_steps as True"),
    (lambda s: meta(s, compiler_prompt_style="verbose"), FormatError, "'verbose'"),
    (lambda s: meta(s, lora_rank=8), FormatError, r"\(2, 4, 32\), not \(2, 8, 32\)"),
    (lambda s: write_pt(s / "lora_mapper.pt", mapper(32)), FormatError, "takes 32.* gives 64"),
    (lambda s: config(s, model_type="mamba"), FormatError, "'mamba' is not supported"),
    (
        lambda s: (s / "compiler/config.json").write_text(json.dumps(tiny.config("gpt2"))),
        FormatError,
        "a gpt2 model cannot be the encoder",
    ),
    (lambda s: config(s, rms_norm_eps=None), FormatError, "config is malformed"),
    (lambda s: config(s, hidden_size=None), FormatError, "hidden_size"),
    (lambda s: config(s, rope_scaling={"type": "yarn"}), FormatError, "rope scaling"),
    (lambda s: config(s, num_hidden_layers=4), FormatError, r"11 tensors .* and 6 more"),
    (lambda s: config(s, num_hidden_layers=2), FormatError, "11 tensors .* is unknown"),
    (
        lambda s: changed(s, **{NORM: None}),
        FormatError,
        r"^1 tensor does not fit in the encoder: model\.norm\.weight is missing",
    ),
    (lambda s: changed(s, **{NORM: mx.zeros(32)}), FormatError, r"is \(32,\), not \(64,\)"),
    (lambda s: changed(s, **{NORM: mx.zeros(64, mx.int32)}), FormatError, "'I32', no float"),
    (lambda s: changed(s, q=mx.zeros(1)), FormatError, "'q' is unknown"),
    (
        lambda s: shutil.copy(s / "compiler/model.safetensors", s / "compiler/two.safetensors"),
        FormatError,
        r"is in model\.safetensors and in two\.safetensors",
    ),
]


@pytest.mark.parametrize(("fault", "kind", "match"), FAULTS)
def test_a_faulty_compiler_is_one_sentence_and_leaves_nothing(source, tmp_path, fault, kind, match):
    fault(source)
    with pytest.raises(kind, match=match) as caught:
        convert_compiler(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} <= {"paw-tiny"}


def test_a_truncated_encoder_gives_one_sentence(source, tmp_path):
    path = source / "compiler" / "model.safetensors"
    whole = path.read_bytes()
    for cut in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            convert_compiler(source, tmp_path / "out")
        assert [p.name for p in tmp_path.iterdir()] == ["paw-tiny"]


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [f"{PACKED}.weight", "model.embed_tokens.weight"])
def test_what_is_not_finite_is_never_written(source, tmp_path, bits, value, name):
    tensor = mx.load(str(source / "compiler" / "model.safetensors"))[name]
    tensor[5, 7] = value
    changed(source, **{name: tensor})
    with pytest.raises(FormatError, match=f"the encoder's {name} holds values that are not finite"):
        convert_compiler(source, tmp_path / "out", bits=bits)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "paw-tiny"]
    file = f"model-0000{2 if name.startswith(PACKED) else 0}-of-00003.safetensors"
    assert not (tmp_path / ".out.partial" / "compiler" / file).exists()


def test_options_that_cannot_be_are_refused(tmp_path):
    source = write_upstream(tmp_path / "source", intermediate_size=96)
    with pytest.raises(OptionError, match="not 5"):
        convert_compiler(source, tmp_path / "out", bits=5)
    with pytest.raises(OptionError, match=r"groups of 64 .*down_proj\.weight is 96 wide"):
        convert_compiler(source, tmp_path / "out", bits=4)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert convert_compiler(source, tmp_path / "out", bits=16)  # the way out that the hint names


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_place_is_one_sentence(source, tmp_path):
    place = tmp_path / "place"
    place.mkdir(mode=0o500)
    with pytest.raises(HubError, match="cannot write"):
        convert_compiler(source, place / "out")


def test_a_place_under_a_file_is_one_sentence(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match="cannot write"):
        convert_compiler(source, tmp_path / "file" / "out")


@pytest.mark.parametrize("limit", [4096, 20_000])  # in the mapper, in the embedding
def test_a_full_disk_is_one_sentence_and_can_be_gone_on_from(source, tmp_path, limit):
    code = (
        "import resource, signal, sys; from pathlib import Path; import paw_mlx.interpreter;"
        "from paw_mlx import HubError; from paw_mlx.convert.checkpoint import convert_compiler;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try: convert_compiler(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except HubError as error: print(error)"
    )
    script = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot write ")
    assert len(done.stdout.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "paw-tiny"]
    out = convert_compiler(source, tmp_path / "out")
    assert content(out) == content(convert_compiler(source, tmp_path / "fresh"))


# --- The command -------------------------------------------------------------------------


def test_the_command_prints_path_size_and_seconds(source, tmp_path):
    done = CliRunner().invoke(command, [str(source), str(tmp_path / "out"), "--bits", "6"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"wrote {tmp_path / 'out'}: 0.")
    assert done.stderr == ""
    done = CliRunner().invoke(command, [str(source), str(tmp_path / "json"), "--json"])
    record = json.loads(done.stdout)
    assert record.pop("seconds") > 0
    size = sum(len(data) for data in content(tmp_path / "json").values())
    assert record == {"path": str(tmp_path / "json"), "bits": 8, "bytes": size}
    done = CliRunner().invoke(command, [str(tmp_path / "out"), str(tmp_path / "again")])
    assert done.exit_code == 1
    assert "is converted already" in done.stderr
    assert not done.stdout
