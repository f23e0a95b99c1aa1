"""Fingerprints: the same weights have one, other weights another, and nobody waits for it."""

from __future__ import annotations

import hashlib
import json
import os
import time
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from paw_mlx.errors import FormatError, NotFound
from paw_mlx.formats.fingerprint import fingerprint, recorded

Tensors = Mapping[str, np.ndarray]
TENSORS = {
    "a.weight": np.arange(4000, dtype=np.float32).reshape(40, 100),
    "b.bias": np.arange(3, dtype=np.float16),
    "c.weight": np.arange(6, dtype=np.uint32).reshape(2, 3),
}


def write(folder: Path, tensors: Tensors, name: str = "model.safetensors") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / name)
    return folder


def write_gguf(path: Path, tensors: Tensors, kind: str = "F32", note: str = "") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_description(note)
    for name, tensor in tensors.items():
        quantized = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(tensor, quantized), raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def changed(name: str, index: int) -> Tensors:
    """TENSORS with one number made larger."""
    tensor = TENSORS[name].copy()
    tensor.flat[index] += 1
    return TENSORS | {name: tensor}


def test_a_fingerprint_is_what_programs_on_disk_have_recorded(tmp_path: Path) -> None:
    """Its rule, written down a second time, and its value: it may never change."""
    types = {"float32": "F32", "float16": "F16", "uint32": "U32"}
    digest = hashlib.sha256()
    for name, t in sorted(TENSORS.items()):
        described = f'["{name}", "{types[str(t.dtype)]}", {list(t.shape)}]'.encode()
        digest.update(hashlib.sha256(described + t.tobytes()[:4096]).digest())
    found = fingerprint(write(tmp_path, TENSORS))
    assert found == digest.hexdigest()
    assert found == "8a8595e4368af56115d4fcd9387cedc20ae6ed0ab3ad8a5d083528f3fe17699e"


def test_how_tensors_are_spread_over_files_does_not_matter(tmp_path: Path) -> None:
    whole = fingerprint(write(tmp_path / "whole", TENSORS))
    parts = tmp_path / "parts"
    write(parts, {"c.weight": TENSORS["c.weight"]}, "model-00001-of-00002.safetensors")
    write(parts, {"a.weight": TENSORS["a.weight"]}, "inner/model.safetensors")
    write(tmp_path / "blobs", {"b.bias": TENSORS["b.bias"]})
    (parts / "linked.safetensors").symlink_to(tmp_path / "blobs" / "model.safetensors")
    assert fingerprint(parts) == whole
    write(parts, {"d": TENSORS["b.bias"]}, ".cache/x.safetensors")
    assert fingerprint(parts) == whole
    write(parts, {"d": TENSORS["b.bias"]}, "x.safetensors")
    assert fingerprint(parts) != whole


@pytest.mark.parametrize(
    "other",
    [
        changed("a.weight", 0),
        changed("a.weight", 1023),
        changed("b.bias", 2),
        TENSORS | {"a.weight": TENSORS["a.weight"].reshape(100, 40)},
        TENSORS | {"c.weight": TENSORS["c.weight"].view(np.float32)},
        TENSORS | {"d": TENSORS["b.bias"]},
        {name: tensor for name, tensor in TENSORS.items() if name != "b.bias"},
        {name.replace("b.", "B."): tensor for name, tensor in TENSORS.items()},
    ],
)
def test_other_weights_have_another_fingerprint(tmp_path: Path, other: Tensors) -> None:
    assert fingerprint(write(tmp_path / "x", other)) != fingerprint(write(tmp_path, TENSORS))


def test_it_is_no_integrity_check(tmp_path: Path) -> None:
    late = write(tmp_path / "late", changed("a.weight", 1024))
    assert fingerprint(late) == fingerprint(write(tmp_path / "whole", TENSORS))


def test_a_gguf_is_known_by_its_weights_and_not_by_its_metadata(tmp_path: Path) -> None:
    tensors = {"t.weight": np.linspace(-1, 1, 640, dtype=np.float32).reshape(10, 64)}
    other = {"t.weight": -tensors["t.weight"]}
    found = fingerprint(write_gguf(tmp_path / "a.gguf", tensors))
    assert fingerprint(write_gguf(tmp_path / "b.gguf", tensors, note="by someone")) == found
    assert fingerprint(write_gguf(tmp_path / "c.gguf", tensors, "Q8_0")) != found
    assert fingerprint(write_gguf(tmp_path / "d.gguf", other)) != found


def test_eight_gigabytes_take_neither_time_nor_memory(tmp_path: Path) -> None:
    rows, width = 1000, 2_000_000
    header = {
        f"{i}": {
            "dtype": "F32",
            "shape": [width],
            "data_offsets": [4 * i * width, 4 * (i + 1) * width],
        }
        for i in range(rows)
    }
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 4 * rows * width)  # a hole: it takes no room on the disk
    tracemalloc.start()
    start = time.perf_counter()
    fingerprint(tmp_path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5
    assert peak < 10e6


def entry(**changes: object) -> bytes:
    sound = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"\x1b[2Jt": sound | changes}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{]",
        (8).to_bytes(8, "little") + b'{"a": 1}',
        entry(dtype=5),
        entry(shape=[-1]),
        entry(shape=[True]),
        entry(shape="22"),
        entry(data_offsets=[0, 9]),
        entry(data_offsets=[4, 0]),
        entry(data_offsets=[-4, 0]),
        entry(data_offsets=[0.0, 8.0]),
        entry(data_offsets=[0]),
        entry()[:-1],
    ],
)
def test_a_malformed_file_gives_one_sentence(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        fingerprint(tmp_path)
    assert "model.safetensors" in str(caught.value)
    assert str(caught.value).isprintable()


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no \*\.safetensors in"):
        fingerprint(tmp_path)
    with pytest.raises(NotFound, match="nowhere"):
        fingerprint(tmp_path / "nowhere")
    (tmp_path / "x").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(FormatError, match="GGUF"):
        fingerprint(tmp_path / "x")
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(FormatError, match="not a regular file"):
        fingerprint(tmp_path)


def test_only_a_text_counts_as_recorded() -> None:
    assert recorded({"interpreter_fingerprint": "ab"}, "interpreter") == "ab"
    for value in (None, "", 5, ["ab"]):
        assert recorded({"compiler_fingerprint": value}, "compiler") is None
