"""GGUF headers that lie fail at once, with one sentence, and allocate nothing large."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from paw_mlx.errors import FormatError, NotFound
from paw_mlx.formats import gguf
from paw_mlx.formats.gguf_reader import read_gguf


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def header(num_tensors: int = 0, num_keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys)


def entry(
    name: bytes = b"t", dims: tuple[int, ...] = (4, 2), kind: int = 0, offset: int = 0
) -> bytes:
    return (
        text(name)
        + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        + struct.pack("<IQ", kind, offset)
    )


def file(*entries: bytes, data: bytes = bytes(256)) -> bytes:
    head = header(len(entries)) + b"".join(entries)
    return head + bytes(-len(head) % 32) + data


ARRAY, STRING, U32 = struct.pack("<I", 9), struct.pack("<I", 8), struct.pack("<I", 4)
ROOM = bytes(4096)
LIES = {
    "no magic": (b"GGML" + ROOM, "magic"),
    "version 1": (header(version=1) + ROOM, "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + ROOM, "version"),
    "2^60 tensors": (header(num_tensors=2**60) + ROOM, "claims 1152921504606846976 tensors"),
    "2^60 keys": (header(num_keys=2**60) + ROOM, "metadata keys"),
    "more tensors than bytes": (header(num_tensors=60_000) + ROOM, "claims 60000 tensors"),
    "2^40-byte name": (header(1) + struct.pack("<Q", 2**40) + ROOM, "1099511627776 bytes"),
    "2^40-byte value": (
        header(0, 1) + text(b"k") + STRING + struct.pack("<Q", 2**40) + ROOM,
        "1099511627776",
    ),
    "2^60 strings": (
        header(0, 1) + text(b"k") + ARRAY + STRING + struct.pack("<Q", 2**60) + ROOM,
        "strings in 'k'",
    ),
    "2^60 numbers": (
        header(0, 1) + text(b"k") + ARRAY + U32 + struct.pack("<Q", 2**60) + ROOM,
        "numbers in 'k'",
    ),
    "a string in an array past the end": (
        header(0, 1) + text(b"k") + ARRAY + STRING + struct.pack("<QQ", 1, 2**63) + ROOM,
        "passes the file's end",
    ),
    "nested arrays": (
        header(0, 1) + text(b"k") + ARRAY + ARRAY + struct.pack("<Q", 1) + ROOM,
        "nested",
    ),
    "unknown value": (header(0, 1) + text(b"k") + struct.pack("<I", 99) + ROOM, "unknown type 99"),
    "a key twice": (header(0, 2) + (text(b"k") + U32 + b"\1\0\0\0") * 2 + ROOM, "'k' twice"),
    "a name in no UTF-8": (header(1) + text(b"\xff\xfe") + ROOM, "UTF-8"),
    "alignment 0": (
        header(0, 1) + text(b"general.alignment") + U32 + struct.pack("<I", 0) + ROOM,
        "alignment 0",
    ),
    "dimensions that overflow": (file(entry(dims=(2**32, 2**32))), "ends at byte"),
    "a dimension of 0": (file(entry(dims=(4, 0))), "(4, 0)"),
    "no dimensions": (file(entry(dims=())), "0 dimensions"),
    "2^31 dimensions": (
        header(1) + text(b"t") + struct.pack("<I", 2**31) + ROOM,
        "2147483648 dimensions",
    ),
    "half a block": (file(entry(dims=(48, 2), kind=2)), "blocks of 32"),
    "an unknown type": (file(entry(kind=16)), "IQ2_XXS, which is not supported"),
    "an unheard-of type": (file(entry(kind=4321)), "type 4321, which is not supported"),
    "an offset past the end": (file(entry(offset=2**62)), "of 256"),
    "an offset that is not aligned": (file(entry(offset=4)), "no multiple of 32"),
    "tensors that overlap": (
        file(entry(b"a", (16, 2)), entry(b"b", (16, 2), offset=32)),
        "overlaps",
    ),
    "a tensor twice": (file(entry(b"a"), entry(b"a", offset=32)), "'a' twice"),
    "control characters in a name": (file(entry(b"\x1b[2J", kind=16)), r"'\x1b[2J'"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lie_gives_one_sentence_and_allocates_nothing(lie: str) -> None:
    data, sentence = LIES[lie]
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError) as caught:
        read_gguf(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 1 << 20
    assert time.perf_counter() - start < 1


def test_values_tensors_and_shapes_are_read_from_path_and_bytes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("n", 7)
    writer.add_float32("f", 0.5)
    writer.add_bool("b", True)
    writer.add_array("words", ["a", "ü", ""])
    writer.add_array("numbers", [1, 2, 3])
    rows = np.arange(192, dtype=np.float32).reshape(3, 64)
    writer.add_tensor("plain", rows)
    kind = gguf.GGMLQuantizationType.Q4_1
    packed = gguf.quants.quantize(rows, kind)
    writer.add_tensor("packed", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for source in (path, path.read_bytes()):
        found = read_gguf(source)
        assert found.metadata["general.architecture"] == "llama"
        assert [found.metadata[key] for key in "nfb"] == [7, 0.5, True]
        assert found.metadata["words"] == ["a", "ü", ""]
        assert list(found.metadata["numbers"]) == [1, 2, 3]
        plain, quantized = found.tensors["plain"], found.tensors["packed"]
        assert (plain.type_name, plain.shape) == ("F32", (3, 64))
        assert np.array_equal(plain.data.view("<f4").reshape(3, 64), rows)
        assert (quantized.type_name, quantized.shape) == ("Q4_1", (3, 64))
        assert np.array_equal(quantized.data, packed.reshape(-1))
        assert not plain.data.flags.writeable


def test_every_type_has_ggmls_block_size() -> None:
    gguf = pytest.importorskip("gguf")
    from paw_mlx.formats.gguf_reader import TYPES

    for number, (name, elements, size) in TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (elements, size))


def test_vocabulary_of_150_000_is_read_well_within_a_second() -> None:
    words = [f"word{i}".encode() for i in range(151_936)]
    data = header(0, 1) + text(b"tokens") + ARRAY + STRING + struct.pack("<Q", len(words))
    data += b"".join(map(text, words))
    start = time.perf_counter()
    assert read_gguf(data).metadata["tokens"][-1] == "word151935"
    assert time.perf_counter() - start < 0.8


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_gguf(tmp_path / "none.gguf")


@pytest.mark.parametrize("key", [b"general.type", b"adapter.type", b"general.architecture"])
def test_an_array_where_an_adapter_has_a_text_is_refused(key: bytes) -> None:
    texts = {
        b"general.type": b"adapter",
        b"adapter.type": b"lora",
        b"general.architecture": b"llama",
    }
    pairs = [text(name) + struct.pack("<I", 8) + text(value) for name, value in texts.items()]
    pairs[[*texts].index(key)] = text(key) + ARRAY + U32 + struct.pack("<QII", 2, 1, 2)
    with pytest.raises(FormatError):
        gguf.read(memoryview(header(0, 3) + b"".join(pairs) + ROOM), None)
