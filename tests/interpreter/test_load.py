"""Bases from disk: quantized on load, from GGUF, and damaged."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from contextlib import nullcontext

import gguf
import mlx.core as mx
import numpy as np
import pytest
import tiny
from tiny_gguf import write_gguf

from paw_mlx import FormatError, Interpreter, NotFound, OptionError, Options, settings
from paw_mlx.device import assume_gpu
from paw_mlx.formats.gguf_reader import GGUFTensor, read_gguf
from paw_mlx.interpreter.base.gguf import read_gguf_base
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.models.load import Base, load_base

TOKENS = list(range(40, 60))


def scores(base: Base) -> np.ndarray:
    return tiny.scores(base, TOKENS)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_more_bits_come_closer_to_the_base(tmp_path, family):
    folder = tiny.write_base(tmp_path / "base", family)
    dense = scores(load_base(folder))
    error = {
        bits: np.abs(scores(load_base(folder, bits=bits, group_size=32)) - dense).mean()
        for bits in (4, 6, 8, 16)
    }
    assert error[4] > 2 * error[6] > 4 * error[8] > 0
    assert error[16] == 0
    bytes_ = [load_base(folder, bits=bits, group_size=32).nbytes for bits in (4, 6, 8, 16)]
    assert bytes_ == sorted(bytes_)


def test_a_gpu_runs_packed_weights_as_they_are(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    write_gguf(tmp_path / "base.gguf", folder, "llama", ["Q8_0"])
    dense = load_base(tmp_path / "base.gguf")
    with assume_gpu():
        packed = load_base(tmp_path / "base.gguf")
        half = load_base(folder, bits=16)
    assert [base.form for base in (dense, packed)] == ["float32", "float16, 8-bit g32"]
    assert [half.form, load_base(folder, bits=16).form] == ["bfloat16", "float32"]
    assert packed.nbytes < dense.nbytes / 3
    np.testing.assert_allclose(scores(packed), scores(dense), atol=0.02 * np.ptp(scores(dense)))


@pytest.mark.parametrize(
    ("family", "dtype", "form"),
    [("qwen3", mx.float16, "bfloat16"), ("llama", mx.float16, "float16"),
     ("gpt2", mx.float32, "bfloat16"), ("llama", mx.bfloat16, "bfloat16")],
)  # fmt: skip
def test_a_gpu_runs_a_dense_base_in_16_bits_that_its_activations_fit(tmp_path, family, dtype, form):
    folder = tiny.write_base(tmp_path / "base", family)
    tensors = mx.load(str(folder / "model.safetensors"))
    halved = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), halved)
    with assume_gpu():
        base = load_base(folder)
        assert (base.form, load_base(folder, trainable=True).form) == (form, "bfloat16")
    assert base.nbytes == sum(tensor.nbytes for tensor in halved.values()) / dtype.size * 2
    assert load_base(folder).form == "float32"


def test_a_quantized_base_is_kept_and_found_again(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    first = scores(load_base(folder, bits=4))
    (kept,) = (settings.cache_dir() / "bases").glob("base-*")
    written = (kept / "model.safetensors").stat().st_mtime_ns
    assert (scores(load_base(folder, bits=4)) == first).all()
    assert (kept / "model.safetensors").stat().st_mtime_ns == written
    tiny.write_base(folder, "llama", seed=1)  # other weights are another base
    assert (scores(load_base(folder, bits=4)) != first).any()
    assert json.loads((kept / "config.json").read_text())["quantization"] == {
        "group_size": 64,
        "bits": 4,
    }


def test_a_kept_base_is_what_mlx_lm_loads(tmp_path):
    mlx_lm = pytest.importorskip("mlx_lm.utils")
    folder = tiny.write_base(tmp_path / "base", "qwen3")
    ours = scores(load_base(folder, bits=8, group_size=32))
    (kept,) = (settings.cache_dir() / "bases").glob("base-*")
    theirs, _ = mlx_lm.load_model(kept)
    np.testing.assert_allclose(ours, np.array(theirs(mx.array([TOKENS]))[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"bits": 5}, "not 5"), ({"bits": 4, "group_size": 48}, "not 48"),
     ({"bits": 4, "group_size": 128}, "64 elements, which groups of 128 do not fit")],
)  # fmt: skip
def test_a_quantization_that_cannot_be_is_refused(tmp_path, options, match):
    folder = tiny.write_base(tmp_path / "base", "llama")
    with pytest.raises(OptionError, match=match):
        load_base(folder, **options)
    assert not list(settings.cache_dir().rglob("*.safetensors"))


def test_a_damaged_base_says_what_is_wrong(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    weights = folder / "model.safetensors"
    tensors = mx.load(str(weights))
    del tensors["model.norm.weight"]
    tensors["extra.weight"] = mx.zeros(3)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:7]
    mx.save_safetensors(str(weights), tensors)
    with pytest.raises(
        FormatError, match=r"^3 .*norm\.weight is missing, extra\.weight is unknown"
    ):
        load_base(folder)
    whole = weights.read_bytes()
    for cut in (0, 7, 100, len(whole) - 100):
        weights.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"is not safetensors|the tensor 'model\."):
            load_base(folder)
    weights.write_bytes(whole.replace(b"extra.weight", b"extra\xffweight"))
    with pytest.raises(FormatError, match="not UTF-8"):
        load_base(folder)
    weights.write_bytes(whole)
    for text, match in [
        ("[" * 100_000, "64 levels"),
        ('{"model_type": "mamba"}', "mamba"),
        ('{"model_type": "llama"}', "lacks 'hidden_size'"),
        (tiny.changed("llama", num_hidden_layers=10**9), "num_hidden_layers as 1000000000"),
        (tiny.changed("llama", num_hidden_layers=5000), "5000 layers"),
        (tiny.changed("llama", num_attention_heads=0), "num_attention_heads as 0"),
        (tiny.changed("llama", hidden_size="64"), "hidden_size as '64'"),
        (tiny.changed("llama", num_key_value_heads=3), "3 key-value heads"),
        (tiny.changed("llama", rms_norm_eps=None), "malformed"),
        (tiny.changed("llama", rope_scaling={"rope_type": "yarn"}), "rope scaling"),
    ]:
        (folder / "config.json").write_text(text)
        with pytest.raises(FormatError, match=match):
            load_base(folder)
    weights.unlink()
    (folder / "config.json").write_text(json.dumps(tiny.config("llama")))
    with pytest.raises(NotFound, match="safetensors"):
        load_base(folder)


LIES = [
    ("llama", {"rms_norm_eps": 0.0}, "eps as 0.0"),
    ("llama", {"rms_norm_eps": -1e-5}, "eps as -1e-05"),
    ("llama", {"rms_norm_eps": 10**400}, "malformed"),
    ("gpt2", {"layer_norm_epsilon": "x"}, "malformed"),
    ("llama", {"rope_theta": 1e300}, "theta is 1e[+]300"),
    ("llama", {"vocab_size": None}, "vocab_size as None"),
    ("llama", {"head_dim": 1 << 24}, "a matrix of 67,108,864 rows"),
    ("llama", {"num_attention_heads": 128}, "do not fit"),
    ("llama", {"eos_token_id": [[1]]}, r"eos_token_id as \[\[1\]\]"),
    ("llama", {"eos_token_id": 1 << 62}, "eos_token_id as 4611686018427387904"),
    ("llama", {"eos_token_id": True}, "eos_token_id as True"),
    ("llama", {"quantization": [4]}, r"quantization as \[4\]"),
]


@pytest.mark.parametrize(("family", "lie", "match"), LIES)
def test_a_config_that_lies_is_one_sentence(tmp_path, family, lie, match):
    folder = tiny.write_base(tmp_path / "base", family)
    (folder / "config.json").write_text(tiny.changed(family, **lie))
    with pytest.raises(FormatError, match=match):
        load_base(folder)


def test_of_gpt2_the_positions_count(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "gpt2")
    (folder / "config.json").write_text(tiny.changed("gpt2", max_position_embeddings="x"))
    assert load_base(folder).window == 256


def test_a_failed_quantization_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = tiny.write_base(tmp_path / "base", "llama")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tokenizer, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_base(folder, bits=4)
    assert [p.name for p in (settings.cache_dir() / "bases").iterdir()] == [".lock"]


# --- GGUF -------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("kinds", [["Q4_1", "Q8_0"], ["Q4_0", "F16", "BF16"], ["Q5_0", "F32"]])
def test_a_gguf_base_equals_the_same_weights_as_safetensors(tmp_path, family, kinds):
    folder = tiny.write_base(tmp_path / "base", family)
    stored = write_gguf(tmp_path / "base.gguf", folder, family, kinds)
    contiguous = {name: mx.array(np.ascontiguousarray(t)) for name, t in stored.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), contiguous)
    from_gguf, from_folder = load_base(tmp_path / "base.gguf"), load_base(folder)
    np.testing.assert_allclose(scores(from_gguf), scores(from_folder), atol=1e-4)
    assert from_gguf.profile.fits(from_folder.profile)
    assert (from_gguf.window, from_gguf.eos) == (from_folder.window, from_folder.eos)
    text = "the disk <|im_end|>is full 12 Grüße"
    for control in (False, True):
        ids = from_gguf.tokenizer.encode(text, control=control)
        assert ids == from_folder.tokenizer.encode(text, control=control)


def test_a_gguf_base_can_be_quantized_on_load(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    write_gguf(tmp_path / "base.gguf", folder, "llama", ["Q8_0"])
    dense = scores(load_base(tmp_path / "base.gguf"))
    close = scores(load_base(tmp_path / "base.gguf", bits=8, group_size=32))
    assert 0 < np.abs(close - dense).mean() < 0.05 * np.abs(dense).mean()
    with Interpreter.load(str(tmp_path / "base.gguf"), bits=4) as interpreter:
        assert interpreter.run(tiny.program("llama"), "picnic", Options(max_tokens=4)).output_tokens


@pytest.mark.parametrize(("family", "dtype"), [("qwen3", "bfloat16"), ("llama", "float16")])
def test_scales_of_packed_blocks_have_a_type_that_activations_fit(tmp_path, family, dtype):
    folder = tiny.write_base(tmp_path / "base", family)
    write_gguf(tmp_path / "base.gguf", folder, family, ["Q8_0"])
    dense = scores(load_base(tmp_path / "base.gguf"))
    with assume_gpu():
        base = load_base(tmp_path / "base.gguf")
    assert base.form == f"{dtype}, 8-bit g32"
    assert {group.dtype for group in base.groups} == {base.dtype}
    np.testing.assert_allclose(scores(base), dense, atol=0.1 * np.ptp(dense))


def test_blocks_that_mlx_lacks_are_packed_on_a_gpu_once(tmp_path, monkeypatch):
    """The official Qwen3 base is Q6_K; what maps onto MLX's packing stays what it is."""
    folder, path = tiny.write_base(tmp_path / "base", "qwen3"), tmp_path / "base.gguf"
    write_gguf(path, folder, "qwen3", ["Q5_0", "Q8_0"])
    dense = load_base(path)
    assert not (settings.cache_dir() / "bases").exists()  # without a GPU it is decoded each time
    said: list[str] = []
    with assume_gpu():
        first = load_base(path, progress=said.append)
        with monkeypatch.context() as patch:
            patch.setattr(GGUFTensor, "dense", None)
            again = load_base(path, progress=said.append)
    assert said == ["decoding base.gguf, once"]
    assert {first.form, again.form} == {"bfloat16, 8-bit g32"}
    assert (scores(first) == scores(again)).all()
    np.testing.assert_allclose(scores(first), scores(dense), atol=0.1 * np.ptp(scores(dense)))
    (kept,) = (settings.cache_dir() / "bases").glob("base-*")
    found, exact = mx.load(str(kept / "model.safetensors")), read_gguf_base(path).layers
    packed = {name: read() for name, read in exact.items() if "proj" in name}
    packed = {name: parts for name, parts in packed.items() if "scales" in parts}
    assert packed
    for name, parts in packed.items():
        for part, tensor in parts.items():
            assert mx.array_equal(found[f"{name}.{part}"], tensor), name
    write_gguf(path, tiny.write_base(folder, "qwen3", seed=1), "qwen3", ["Q5_0", "Q8_0"])
    with assume_gpu():
        assert (scores(load_base(path)) != scores(first)).any()


def test_where_nothing_can_be_kept_blocks_are_decoded_each_time(tmp_path):
    folder, path = tiny.write_base(tmp_path / "base", "llama"), tmp_path / "base.gguf"
    write_gguf(path, folder, "llama", ["Q5_0"])
    settings.cache_dir().mkdir(parents=True)
    (settings.cache_dir() / "bases").write_text("a file where the folder should be")
    said: list[str] = []
    with assume_gpu():
        assert load_base(path, progress=said.append).form == "bfloat16, 8-bit g32"
    assert said[1].startswith("cannot ")
    assert said[1].endswith("; it is decoded each time")


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("kind", ["Q5_0", "Q8_0", "F16", "F32"])
def test_a_base_is_loaded_without_a_second_copy_of_it(tmp_path, monkeypatch, kind, gpu):
    """Beyond what stays there is one layer, never all: 0.8 bytes for each of 2M parameters."""
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8}
    monkeypatch.setitem(tiny.CONFIGS, "qwen3", tiny.CONFIGS["qwen3"] | sizes)
    folder, path = tiny.write_base(tmp_path / "base", "qwen3"), tmp_path / "base.gguf"
    write_gguf(path, folder, "qwen3", [kind])
    with assume_gpu() if gpu else nullcontext():
        for source in (path, folder, path):  # the third comes from the cache, if there is one
            before = tiny.active_bytes()
            mx.reset_peak_memory()
            base = load_base(source)
            over = mx.get_peak_memory() - before - base.nbytes
            parameters = sum(t.size for t in mx.load(str(folder / "model.safetensors")).values())
            assert over < 0.8 * parameters, (source, over / parameters)
            del base


def test_k_quants_of_a_gguf_base_are_decoded_by_the_reference_rules(tmp_path):
    """Q6_K, the type of the official Qwen3 base, on a block made of random bytes."""
    blocks = np.random.default_rng(0).integers(0, 256, (6, 210), np.uint8)
    blocks[:, 208:] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("t.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q6_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = read_gguf(tmp_path / "x.gguf").tensors["t.weight"]
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q6_K)
    assert tensor.shape == (6, 256)
    assert (tensor.dense() == expected).all()


def test_a_damaged_gguf_base_says_what_is_wrong(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    path = tmp_path / "base.gguf"
    write_gguf(path, folder, "llama", ["Q8_0"])
    whole = path.read_bytes()
    for cut in (3, 30, 3000, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError):
            load_base(path)
    path.write_bytes(whole.replace(b"llama.block_count", b"llama.block_c0unt"))
    with pytest.raises(FormatError, match=r"lacks the key llama\.block_count"):
        load_base(path)
    path.write_bytes(whole.replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_xp.weight"))
    with pytest.raises(FormatError, match=r"unknown tensor 'blk\.1\.ffn_xp"):
        load_base(path)
    path.write_bytes(whole.replace(b"tokenizer.ggml.pre", b"tokenizer.ggml.prx"))
    with pytest.raises(FormatError, match="pre-tokenizer None"):
        load_base(path)
    at = whole.index(b"llama.block_count") + len(b"llama.block_count") + 4
    path.write_bytes(whole[:at] + (4_000_000_000).to_bytes(4, "little") + whole[at + 4 :])
    with pytest.raises(FormatError, match="num_hidden_layers as 4000000000"):
        load_base(path)


def test_a_packed_layer_without_its_biases_is_refused(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    load_base(folder, bits=4)
    (kept,) = (settings.cache_dir() / "bases").glob("base-*")
    tensors = mx.load(str(kept / "model.safetensors"))
    del tensors["model.embed_tokens.biases"]
    mx.save_safetensors(str(kept / "model.safetensors"), tensors)
    with pytest.raises(FormatError, match="biases are missing"):
        load_base(kept)


def test_a_full_disk_while_quantizing_is_one_sentence(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from paw_mlx import DiskError; from paw_mlx.interpreter.models.load import load_base;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: load_base(Path(sys.argv[1]), bits=4)\n"
        "except DiskError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cannot write ")
    assert not list((settings.cache_dir() / "bases").glob("*base*"))


@pytest.mark.parametrize(
    "key",
    ["general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"],
)
def test_an_array_where_a_gguf_base_has_a_text_is_refused(tmp_path, key):
    path = tmp_path / "base.gguf"
    write_gguf(path, tiny.write_base(tmp_path / "base", "llama"), "llama", ["F32"])
    data, name = path.read_bytes(), key.encode()
    at = data.index(name) + len(name)
    length = int.from_bytes(data[at + 4 : at + 12], "little")
    array = struct.pack("<IIQ", 9, 0, length - 4) + bytes(length - 4)  # as long as the text was
    path.write_bytes(data[:at] + array + data[at + 12 + length :])
    with pytest.raises(FormatError, match=r"architecture|tokenizer"):
        load_base(path)


def test_a_tokenizer_that_fails_on_a_text_is_one_sentence(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    made = json.loads((folder / "tokenizer.json").read_text())
    made["model"] = {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]]}
    (folder / "tokenizer.json").write_text(json.dumps(made))
    base = load_base(folder)
    with pytest.raises(FormatError, match="the base's tokenizer fails"):
        base.tokenizer.encode("xyz")


def test_a_tokenizer_that_the_library_panics_on_is_one_sentence(tmp_path):
    made = json.loads(tiny.tokenizer().to_str())
    made["model"]["continuing_subword_prefix"] = "#" * 20  # longer than what it is cut off from
    (tmp_path / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(FormatError, match=r"not a tokenizer\.json: range end index"):
        Tokenizer.from_file(tmp_path / "tokenizer.json")


def test_packed_parts_that_do_not_fit_together_are_refused(tmp_path):
    folder = tiny.write_base(tmp_path / "base", "llama")
    tensors = mx.load(str(folder / "model.safetensors"))
    name = "model.layers.0.mlp.up_proj"
    parts = mx.quantize(tensors.pop(f"{name}.weight"), group_size=32, bits=4)
    for part, tensor in zip(("weight", "scales", "biases"), parts, strict=True):
        tensors[f"{name}.{part}"] = tensor
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    load_base(folder)
    for part, cut in (("weight", np.s_[:, :7]), ("scales", np.s_[1:]), ("biases", np.s_[:, :1])):
        mx.save_safetensors(
            str(folder / "model.safetensors"),
            tensors | {f"{name}.{part}": mx.contiguous(tensors[f"{name}.{part}"][cut])},
        )
        with pytest.raises(FormatError, match="packed in"):
            load_base(folder)


def test_a_load_leaves_no_draw_of_random_weights_waiting(tmp_path):
    """Each held on to the one before: a process that loads now and then grew."""
    load_base(tiny.write_base(tmp_path / "base", "llama"))
    drawn = io.StringIO()
    mx.export_to_dot(drawn, mx.random.state[0])
    assert "Split" not in drawn.getvalue()
