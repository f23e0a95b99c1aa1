"""Published compilers become MLX compilers: exactly, streamed, a layer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from upstreams import GOLDEN, META, content, loaded, same, save, write_upstream

from paw_mlx.cli.convert_compiler import command
from paw_mlx.convert.checkpoint import convert_compiler
from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.formats.checkpoint import read_converted

TOKENS = mx.array([list(range(40, 60))])


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
    assert read_converted(out)
    assert not read_converted(source)
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
@pytest.mark.slow
@pytest.mark.parametrize(("bits", "at_most"), [(4, 0.65), (8, 0.95), (16, 1.1), (32, 2.4)])
def test_memory_stays_at_a_layer_however_many_there_are(tmp_path, bits, at_most):
    few, layer = peak_bytes(tmp_path, 6, bits)
    many, _ = peak_bytes(tmp_path, 24, bits)
    assert 0 < few < at_most * layer
    assert many < 1.1 * few


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
