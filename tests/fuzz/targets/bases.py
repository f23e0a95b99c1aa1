"""Bases: GGUF files, folders of safetensors, and what steers them (config.json, tokenizer.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf as reference
import mlx.core as mx
import numpy as np
import tiny
import tiny_gguf

from paw_mlx.formats.gguf_reader import TYPES, read_gguf
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.models import make_model
from paw_mlx.interpreter.models.load import load_base
from paw_mlx.profiles import Profile

from ..gguf_fields import gguf_mutation
from ..json_values import json_mutation
from ..structures import packed, safetensors_mutation
from ..target import Target
from .containers import folder_bytes, unpack

_SMALL: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32},
    "qwen3": {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 32, "head_dim": 16},
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_positions": 32},
}
TEXTS = ("the disk is full", "<|im_start|>x<|im_end|>", "e\u0301\u202e 12 'll\r\n\t", "")


def write_small(folder: Path, family: str) -> Path:
    """Write a base of one layer, 32 wide, in float16: some 30 kB."""
    before = tiny.CONFIGS[family]
    tiny.CONFIGS[family] = before | _SMALL[family]
    try:
        tiny.write_base(folder, family)
        weights = folder / "model.safetensors"
        held = {n: t.astype(mx.float16) for n, t in mx.load(str(weights)).items()}
        mx.eval(held)
        mx.save_safetensors(str(weights), held, {"format": "pt"})
    finally:
        tiny.CONFIGS[family] = before
    return folder


def write_small_gguf(path: Path, family: str, kinds: list[str]) -> Path:
    """Write such a base as GGUF, its matrices in these types in turn."""
    folder = write_small(path.with_suffix(".base"), family)
    before = tiny.CONFIGS[family]
    tiny.CONFIGS[family] = before | _SMALL[family]
    try:
        tiny_gguf.write_gguf(path, folder, family, kinds)
    finally:
        tiny.CONFIGS[family] = before
    return path


def gguf_file(sandbox: Path) -> Target:
    """Tensors of every type, and metadata of every kind."""

    def read(data: bytes) -> None:
        for tensor in read_gguf(memoryview(data)).tensors.values():
            if tensor.data.nbytes < 1 << 20:
                tensor.dense()

    return Target("gguf-file", [_all_types(sandbox / "all.gguf")], read, gguf_mutation)


def _all_types(path: Path) -> bytes:
    writer = reference.GGUFWriter(path, "llama")
    for value in ("text", 3, -3, 2.5, True, [1, 2, 3], ["a", "b"], [0.5, 1.5]):
        add = writer.add_key_value
        kind = reference.GGUFValueType.get_type(value)
        inner = reference.GGUFValueType.get_type(value[0]) if isinstance(value, list) else None
        add(f"k.{len(str(value))}.{kind.name}.{inner}", value, kind, sub_type=inner)
    chance = np.random.default_rng(1)
    for name, elements, size in TYPES.values():
        kind = reference.GGMLQuantizationType[name]
        data = chance.integers(0, 50, (2, 256 // elements * size)).astype(np.uint8)
        writer.add_tensor(f"t.{name}", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def gguf_base(sandbox: Path) -> Target:
    path = sandbox / "x.gguf"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_base(path)

    made = [("llama", ["Q8_0", "Q4_0", "F16"]), ("qwen3", ["Q4_1", "BF16"]), ("gpt2", ["Q8_0"])]
    seeds = [
        write_small_gguf(sandbox / f"{family}.gguf", family, kinds).read_bytes()
        for family, kinds in made
    ]
    return Target("gguf-base", seeds, read, gguf_mutation)


def base(sandbox: Path) -> Target:
    """A folder: config.json, tokenizer.json, model.safetensors, generation_config.json."""

    def read(data: bytes) -> None:
        unpack(data, sandbox / "base")
        load_base(sandbox / "base")

    seeds = []
    for family in tiny.FAMILIES:
        folder = write_small(sandbox / family, family)
        (folder / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
        seeds.append(folder_bytes(folder))
    by_end = {".json": json_mutation, ".safetensors": safetensors_mutation}
    return Target("base", seeds, read, packed(by_end))


def base_config(sandbox: Path) -> Target:
    """A base's config.json: its profile, and the model that it describes."""

    def read(data: bytes) -> None:
        from paw_mlx.formats.untrusted import json_object

        config = json_object(data, "config.json")
        Profile.from_config(config)
        make_model(config)
        mx.eval(mx.random.state[0])  # as a load has it: draws hold on to those before

    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}, "quantization": {}}
    seeds = [json.dumps(tiny.config(family) | rope).encode() for family in tiny.FAMILIES]
    return Target("base-config", seeds, read, json_mutation)


def tokenizer(sandbox: Path) -> Target:
    path = sandbox / "tokenizer.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        made = Tokenizer.from_file(path)
        for text in TEXTS:
            ids = made.encode(text, control=True) + made.encode_input(text, "\n<|im_end|>\n")
            made.decode(ids)
            stream = made.stream()
            for id_ in ids[:20]:
                stream.push(id_)
            stream.finish()

    return Target("tokenizer", _tokenizers(), read, json_mutation)


def _tokenizers() -> list[bytes]:
    """Return a byte-level BPE as GPT-2's, one with all that Qwen's has besides, and others."""
    plain = json.loads(tiny.tokenizer().to_str())
    vocab = {token: number for token, number in plain["model"]["vocab"].items() if number < 60}
    plain["model"] |= {"vocab": vocab | {"th": 60, "the": 61}, "merges": [["t", "h"], ["th", "e"]]}
    plain["added_tokens"] = [t | {"id": 62 + i} for i, t in enumerate(plain["added_tokens"])]
    split = {
        "type": "Split",
        "pattern": {"Regex": r"\p{N}|\s+(?!\S)|[^\s]+"},
        "behavior": "Isolated",
    }
    words = {
        "type": "Sequence",
        "pretokenizers": [split | {"invert": False}, plain["pre_tokenizer"]],
    }
    rich = plain | {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Strip", "strip_left": True, "strip_right": False},
            ],
        },
        "pre_tokenizer": words,
        "truncation": {
            "direction": "Right",
            "max_length": 3,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "post_processor": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": False,
            "use_regex": True,
        },
    }
    unigram = plain | {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["the", -2.5]],
            "byte_fallback": False,
        },
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
        "decoder": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "always",
            "split": True,
        },
    }
    return [json.dumps(one).encode() for one in (plain, rich, unigram)]
