"""Safetensors, written: at once or tensor by tensor the same bytes, which others read."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file

from paw_mlx.errors import FormatError
from paw_mlx.formats.tensors import (
    Later,
    SafetensorsWriter,
    read_safetensors,
    safetensors_index,
    write_safetensors,
)

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b.bias": np.arange(5, dtype=np.float32),
    "c": np.ones((2, 2, 2), np.float32),
}


def write(path: Path, room: int) -> bytes:
    with SafetensorsWriter(path, {"format": "mlx"}, room) as file:
        for name, array in ARRAYS.items():
            file.add(name, "F32", array.shape, array.data)
    return path.read_bytes()


def later() -> dict[str, Later]:
    return {
        name: Later("f32", array.shape, array.nbytes, lambda array=array: array)
        for name, array in reversed(ARRAYS.items())
    }


def test_tensor_by_tensor_gives_the_bytes_of_all_at_once(tmp_path):
    write_safetensors(tmp_path / "once", later(), {"format": "mlx"})
    whole = (tmp_path / "once").read_bytes()
    room = int.from_bytes(whole[:8], "little")
    assert room % 8 == 0
    assert write(tmp_path / "streamed", room) == whole


@pytest.mark.parametrize("room", [400, 1 << 12])
def test_what_is_written_is_read_by_us_and_by_others(tmp_path, room):
    path = tmp_path / "x.safetensors"
    write(path, room)
    found = load_file(path)
    in_mlx = mx.load(str(path))
    raw = read_safetensors(path, "x")
    assert list(safetensors_index(path)) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name] == array).all()
        assert (np.array(in_mlx[name]) == array).all()
        assert raw[name].shape == array.shape
        assert bytes(raw[name].data) == array.tobytes()


def test_one_tensor_at_a_time_is_made(tmp_path):
    made = []

    def make(name: str) -> np.ndarray:
        made.append((name, (tmp_path / "x").stat().st_size))
        return np.zeros(1 << 20, np.uint8)

    names = [f"t{i}" for i in range(4)]
    tensors = {n: Later("f32", (1 << 18,), 1 << 20, lambda n=n: make(n)) for n in names}
    write_safetensors(tmp_path / "x", tensors, {})
    assert [name for name, _ in made] == names
    assert [size >> 20 for _, size in made] == [0, 1, 2, 3]  # each is on disk before the next


def test_a_file_that_was_given_up_is_none(tmp_path):
    def interrupted() -> np.ndarray:
        raise KeyboardInterrupt

    path = tmp_path / "x.safetensors"
    tensors = later() | {"b.bias": Later("f32", (5,), 20, interrupted)}
    with pytest.raises(KeyboardInterrupt):
        write_safetensors(path, tensors, {})
    with pytest.raises(FormatError, match="its header has 0 bytes"):
        safetensors_index(path)
