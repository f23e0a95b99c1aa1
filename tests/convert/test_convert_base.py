"""Bases converted to MLX: the same outputs, the same values, and nothing overwritten."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import tiny
from tiny_gguf import CHAT_TEMPLATE, write_gguf

from paw_mlx import DiskError, FormatError, Interpreter, NotFound, OptionError, Options
from paw_mlx.convert import base as conversion
from paw_mlx.convert.base import convert_base
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.interpreter.base.read import read_source
from paw_mlx.interpreter.base.tensors import shapes_of
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models import make_model
from paw_mlx.interpreter.models.load import load_base

TOKENS = mx.array([list(range(40, 60))])
INPUTS = ["the server is down", "spring picnic", "all are welcome", "disk 98% full"]
KINDS = [["Q4_1", "Q8_0"], ["Q4_0", "F16", "BF16"], ["Q5_0", "F32"]]


def scores(path: Path, bits: int | None = None) -> np.ndarray:
    base = load_base(path, bits=bits, group_size=32)
    hidden = base.model.hidden(TOKENS, KV(base.model.num_layers))
    return np.array(base.model.logits(hidden).astype(mx.float32))


def outputs(path: Path, family: str, bits: int | None = None) -> list[str]:
    program = tiny.program(family)
    with Interpreter.load(str(path), bits=bits, group_size=32) as interpreter:
        return [interpreter.run(program, text, Options(max_tokens=12)).text for text in INPUTS]


def tensors(folder: Path) -> dict[str, mx.array]:
    layers = read_source(folder).layers.items()
    return {f"{path}.{part}": t for path, read in layers for part, t in read().items()}


def config(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def recast(folder: Path, dtype: mx.Dtype) -> Path:
    """Store a tiny base in another type."""
    path = str(folder / "model.safetensors")
    mx.save_safetensors(path, {name: t.astype(dtype) for name, t in mx.load(path).items()})
    return folder


@pytest.fixture(params=["folder", "gguf"])
def source(request: pytest.FixtureRequest, tmp_path: Path, family: str) -> Path:
    folder = tiny.write_base(tmp_path / "base", family)
    if request.param == "folder":
        return folder
    write_gguf(tmp_path / "base.gguf", folder, family, ["Q4_1", "Q8_0", "F16"])
    return tmp_path / "base.gguf"


@pytest.mark.slow
@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_converted_is_quantized_on_load(source, tmp_path, family, bits):
    out = convert_base(source, tmp_path / "out", bits=bits, group_size=32)
    assert (scores(out, bits) == scores(source, bits)).all()
    expected = outputs(source, family, bits)
    assert len(set(expected)) > 1
    assert outputs(out, family, bits) == expected
    assert config(out)["quantization"] == {"group_size": 32, "bits": bits}
    np.testing.assert_allclose(scores(out), scores(source, bits), atol=1e-4)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("bits", [None, 16, 32])
def test_converted_without_packing_runs_as_the_source_does(source, tmp_path, family, bits):
    out = convert_base(source, tmp_path / "out", bits=bits)
    exact = source.is_dir() or bits == 32
    np.testing.assert_allclose(scores(out), scores(source), atol=0 if exact else 0.05)
    assert outputs(out, family) == outputs(source, family)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float16, mx.float32], ids=str)
@pytest.mark.parametrize("bits", [None, 16, 32])
def test_dense_values_are_kept_to_the_bit(tmp_path, family, dtype, bits):
    folder = recast(tiny.write_base(tmp_path / "base", family), dtype)
    out = convert_base(folder, tmp_path / "out", bits=bits)
    before, after = tensors(folder), tensors(out)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        assert tensor.dtype == (mx.float32 if bits == 32 else dtype)
        assert mx.array_equal(tensor, before[name]), name
    assert "quantization" not in config(out)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kinds", KINDS, ids="-".join)
def test_packed_blocks_of_a_gguf_stay_what_they_are(tmp_path, family, kinds):
    """Against the reference package's decoding, tensor by tensor."""
    folder = tiny.write_base(tmp_path / "base", family)
    stored = write_gguf(tmp_path / "base.gguf", folder, family, kinds)
    out = convert_base(tmp_path / "base.gguf", tmp_path / "out")
    found, said = tensors(out), config(out).get("quantization", {})
    assert bool(said) == (kinds[0] != "Q5_0")
    num_packed = 0
    for name, expected in stored.items():
        path = name.removesuffix(".weight")
        conv1d = family == "gpt2" and ".h." in name and expected.ndim == 2
        expected = expected.T if conv1d else expected
        tolerance = 1e-2  # of what the reference decodes, and float16 or bfloat16 holds
        weight = found[name]
        if f"{path}.scales" in found:
            num_packed += 1
            packing = said.get(path.replace("transformer.", "model."), said)
            packing = {key: packing[key] for key in ("group_size", "bits")}
            scales, biases = (found[f"{path}.{p}"] for p in ("scales", "biases"))
            assert scales.dtype == mx.float16
            weight = mx.dequantize(weight, *(p.astype(mx.float32) for p in (scales, biases)),
                                   **packing)  # fmt: skip
            tolerance = 1e-6
        values = np.array(weight.astype(mx.float32))
        assert np.abs(values - expected).max() <= tolerance * np.abs(expected).max(), name
    assert (num_packed > 0) == bool(said)


def test_a_packing_that_is_there_already_is_not_rounded_again(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "qwen3")
    first = convert_base(folder, tmp_path / "first", bits=4, group_size=32)
    second = convert_base(first, tmp_path / "second", bits=4, group_size=32)
    before, after = tensors(first), tensors(second)
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    wider = convert_base(first, tmp_path / "wider", bits=8, group_size=32)
    assert config(wider)["quantization"]["bits"] == 8
    away = {path: np.abs(scores(path) - scores(folder)).mean() for path in (first, wider)}
    assert abs(away[first] - away[wider]) < 0.1 * away[first]


def test_all_floats_of_a_converted_base_have_one_type(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    write_gguf(tmp_path / "base.gguf", folder, "llama", ["Q4_1", "BF16"])
    out = convert_base(tmp_path / "base.gguf", tmp_path / "out")
    assert {t.dtype for t in tensors(out).values()} == {mx.float16, mx.uint32}
    assert config(out)["torch_dtype"] == "float16"


@pytest.mark.slow
def test_memory_stays_at_a_few_of_the_largest_tensor(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    settings = tiny.config("llama") | {"hidden_size": 256, "intermediate_size": 1024,
                                       "num_hidden_layers": 16}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    shapes = shapes_of(make_model(read_source(folder).config))
    weights = {name: mx.random.normal(shape) for name, shape in shapes.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    del weights
    largest = 4 * max(math.prod(shape) for shape in shapes.values())
    for bits in (None, 4, 32):
        before = tiny.active_bytes()
        mx.reset_peak_memory()
        convert_base(folder, tmp_path / "out", bits=bits)
        assert mx.get_peak_memory() - before < 3 * largest
    assert sum(4 * math.prod(shape) for shape in shapes.values()) > 40 * largest


# --- what lies beside the weights --------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as hubs have it, and what nobody wants of it."""
    folder = tiny.write_base(tmp_path / "published", "qwen3")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    (folder / "generation_config.json").write_text('{"eos_token_id": [302, 300]}')
    for name in ("modeling_evil.py", "README.md", "pytorch_model.bin", "notes.json"):
        (folder / name).write_text("import os")
    remote = {"auto_map": {"AutoModel": "modeling_evil.Evil"}, "model_file": "modeling_evil.py"}
    text = tiny.changed("qwen3", use_cache=True, dtype="float32", **remote)
    (folder / "config.json").write_text(text)
    return folder


def test_the_tokenizers_files_come_along_and_nothing_else_does(published, tmp_path):
    out = convert_base(published, tmp_path / "out", bits=4, group_size=32)
    texts = {"chat_template.jinja", "tokenizer_config.json", "generation_config.json",
             "tokenizer.json"}  # fmt: skip
    assert {p.name for p in out.iterdir()} == {*texts, "config.json", "model.safetensors"}
    for name in texts:
        assert (out / name).read_bytes() == (published / name).read_bytes()
    assert config(out)["use_cache"] is True
    assert not {"auto_map", "model_file", "dtype"} & config(out).keys()
    assert load_base(out).eos == load_base(published).eos


def test_a_text_that_is_no_small_regular_file_is_refused(published, tmp_path):
    (published / "chat_template.jinja").unlink()
    (published / "chat_template.jinja").mkdir()
    with pytest.raises(FormatError, match=r"chat_template\.jinja is not a regular file"):
        convert_base(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_gguf_brings_its_chat_template_and_its_tokens(tmp_path, family):
    folder = tiny.write_base(tmp_path / "base", family)
    write_gguf(tmp_path / "base.gguf", folder, family, ["Q8_0"])
    out = convert_base(tmp_path / "base.gguf", tmp_path / "out")
    said = json.loads((out / "tokenizer_config.json").read_text())
    assert (said["chat_template"], said["eos_token"]) == (CHAT_TEMPLATE, "<|im_end|>")
    text = "the disk <|im_end|>is full 12 Grüße"
    for control in (False, True):
        theirs = Tokenizer.from_file(folder / "tokenizer.json").encode(text, control=control)
        ours = Tokenizer.from_file(out / "tokenizer.json").encode(text, control=control)
        assert ours == theirs
    assert load_base(out).eos == load_base(tmp_path / "base.gguf").eos


def test_a_program_for_the_source_is_at_home_on_what_was_made_of_it(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    other = tiny.write_base(tmp_path / "other", "llama", seed=1)
    out = convert_base(folder, tmp_path / "out", bits=4)
    again = convert_base(out, tmp_path / "again", bits=8)
    assert config(again)["paw_mlx"]["source"] == "base"
    assert config(again)["paw_mlx"]["bits"] == 8
    assert config(again)["paw_mlx"]["source_fingerprint"] == fingerprint(folder)
    program = tiny.program("llama")
    for bits, path in [(None, out), (4, out), (None, again)]:
        with Interpreter.load(str(path), bits=bits) as interpreter:
            # What is trained or compiled on the converted base records its source, too.
            assert interpreter.base.fingerprint == fingerprint(folder)
            meta = {"interpreter_fingerprint": fingerprint(folder)}
            interpreter.check(replace(program, meta=meta), strict=True)
            meta = {"interpreter_fingerprint": fingerprint(other)}
            with pytest.raises(FormatError, match="fingerprint"):
                interpreter.check(replace(program, meta=meta), strict=True)


def test_a_record_that_is_none_does_no_harm(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    for record in ("x", {"source_fingerprint": 5}, None):
        (folder / "config.json").write_text(tiny.changed("llama", paw_mlx=record))
        assert load_base(folder).fingerprint == fingerprint(folder)


def test_the_source_is_known_by_its_repo_in_the_hugging_face_cache(tmp_path):
    cache = tmp_path / "models--org--small" / "snapshots" / "0123abc"
    folder = tiny.write_base(cache, "llama")
    write_gguf(cache / "base.gguf", folder, "llama", ["Q8_0"])
    for source in (folder, cache / "base.gguf"):
        out = convert_base(source, tmp_path / "out")
        assert config(out)["paw_mlx"]["source"] == "org/small"


# --- refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [({"bits": 5}, "not 5"), ({"bits": 4, "group_size": 48}, "not 48"),
     ({"bits": 4, "group_size": 128}, "64 elements, which groups of 128 do not fit")],
)  # fmt: skip
def test_bits_that_cannot_be_are_refused(tmp_path, options, match):
    folder = tiny.write_base(tmp_path / "base", "llama")
    with pytest.raises(OptionError, match=match):
        convert_base(folder, tmp_path / "out", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_only_an_earlier_conversion_is_replaced(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    out = convert_base(folder, tmp_path / "out", bits=4)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"also holds notes\.txt"):
        convert_base(folder, out, bits=8)
    (out / "notes.txt").unlink()
    assert convert_base(folder, out, bits=8) == out
    assert config(out)["quantization"]["bits"] == 8
    mine, link = tiny.write_base(tmp_path / "mine", "gpt2"), tmp_path / "link"
    link.symlink_to(out)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for there in (mine, link, tmp_path / "file", tmp_path / "dangling"):
        with pytest.raises(OptionError, match="is no converted base") as caught:
            convert_base(folder, there)
        assert caught.value.hints
    for there in (folder, folder / "out", tmp_path):
        with pytest.raises(OptionError, match="lie in one another"):
            convert_base(folder, there)
    with pytest.raises(OptionError, match="lie in one another"):
        convert_base(out, out)
    with pytest.raises(NotFound, match="no such base"):
        convert_base(tmp_path / "nothing", tmp_path / "new")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_source_that_does_not_fit_leaves_what_was_there(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    out = convert_base(folder, tmp_path / "out", bits=4)
    before = {p: p.read_bytes() for p in out.iterdir()}
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()

    def damaged(match: str, **changes: mx.array | None) -> None:
        found = mx.load(str(weights))
        renamed = {name.replace("__", "."): t for name, t in changes.items()}
        merged = {n: t for n, t in {**found, **renamed}.items() if t is not None}
        mx.save_safetensors(str(weights), merged)
        with pytest.raises(FormatError, match=match):
            convert_base(folder, out)
        weights.write_bytes(whole)

    damaged("norm.weight is missing", model__norm__weight=None)
    damaged("extra.weight is unknown", extra__weight=mx.zeros(3))
    damaged("bias is unknown", model__norm__bias=mx.zeros((2, 2), mx.uint8))
    damaged(r"norm.weight is \(7,\), not \(64,\)", model__norm__weight=mx.ones(7))
    damaged("norm.weight holds values that are not", model__norm__weight=mx.full(64, np.nan))
    weights.write_bytes(whole[:-100])
    with pytest.raises(FormatError, match=r"damaged|before the data"):
        convert_base(folder, out)
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    assert {p.name for p in tmp_path.iterdir()} == {"base", "out"}


@pytest.mark.parametrize(
    ("change", "match"), [({"tie_word_embeddings": False}, "untied"), ({"n_inner": 128}, "2 times")]
)
def test_a_gpt2_that_mlx_lm_cannot_run_is_refused(tmp_path, change, match):
    folder = tiny.write_base(tmp_path / "base", "gpt2")
    (folder / "config.json").write_text(tiny.changed("gpt2", **change))
    with pytest.raises(FormatError, match=match) as caught:
        convert_base(folder, tmp_path / "out")
    assert "--bits" in caught.value.hints[0]


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    folder = tiny.write_base(tmp_path / "base", "llama")
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 50_000)
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: usage)
    for bits in (None, 8, 32):
        with pytest.raises(DiskError, match=r"0\.00 GB are free"):
            convert_base(folder, tmp_path / "new" / "out", bits=bits)
    assert not (tmp_path / "new").exists()
    assert convert_base(folder, tmp_path / "out", bits=4).is_dir()  # 43 kB


def test_a_full_disk_is_one_sentence(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from paw_mlx import DiskError; from paw_mlx.convert.base import convert_base;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: convert_base(Path(sys.argv[1]), Path(sys.argv[2]), bits=4)\n"
        "except DiskError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {tmp_path / 'out'}")
    assert [p.name for p in tmp_path.iterdir()] == ["base"]


def test_an_interrupt_leaves_the_old_conversion(tmp_path, monkeypatch):
    folder = tiny.write_base(tmp_path / "base", "llama")
    out = convert_base(folder, tmp_path / "out", bits=4)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_base(folder, out, bits=8)
    assert {p.name for p in tmp_path.iterdir()} == {"base", "out"}
    assert config(out)["quantization"]["bits"] == 4


def test_a_converted_base_needs_neither_its_source_nor_the_network(tmp_path, monkeypatch):
    folder = tiny.write_base(tmp_path / "base", "gpt2")
    expected = outputs(folder, "gpt2")
    out = convert_base(folder, tmp_path / "out")
    shutil.rmtree(folder)
    monkeypatch.setenv("PAW_OFFLINE", "1")
    assert outputs(out, "gpt2") == expected
