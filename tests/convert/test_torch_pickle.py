"""Reading torch's files without torch: what torch wrote is read, bit for bit."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pickles import (
    GOLDEN,
    GOOD,
    ORDERED,
    VALUES,
    group,
    name,
    number,
    numbers,
    peak_bytes,
    read,
    save,
    state,
    storage,
    tensor,
    text,
)

from paw_mlx.convert.torch_pickle import StateDict, open_state_dict
from paw_mlx.errors import ClosedError, FormatError

# What torch wrote is read.


@pytest.mark.parametrize("file", ["state.pt", "protocol4.pt"])
def test_what_torch_saved_is_read_bit_for_bit(file: str) -> None:
    expected = np.load(GOLDEN / "expected.npz")
    found = read(GOLDEN / file)
    assert len(found) == {"state.pt": 15, "protocol4.pt": 1}[file]
    for key, array in found.items():
        assert array.dtype == expected[key].dtype
        assert array.shape == expected[key].shape
        assert array.flags.c_contiguous
        assert array.tobytes() == expected[key].tobytes()


def test_dtypes_and_shapes_are_known_before_anything_is_read() -> None:
    with open_state_dict(GOLDEN / "state.pt") as found:
        known = {key: (info.dtype, info.shape) for key, info in found.tensors.items()}
    assert list(known)[:4] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert known["0.weight"] == ("f32", (4, 6))
    assert known["half"] == ("f16", (3, 4))
    assert known["bf16.t"] == ("bf16", (4, 3))
    assert known["transposed"] == ("f32", (7, 6, 5))
    assert known["scalar"] == ("f32", ())
    assert known["empty"] == ("f32", (0, 3))


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (2, 3), (3, 1)),
        (0, (3, 2), (1, 3)),
        (1, (2,), (4,)),
        (5, (), ()),
        (2, (1, 2, 1), (2**62, 2, 2**62)),
        (1, (3,), (0,)),
        (0, (2, 2), (1, 1)),
        (99, (0, 3), (3, 1)),
        (0, (3, 0), (2**62, 1)),
    ],
)
def test_a_view_is_what_its_strides_say(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    view = tensor(offset=offset, shape=numbers(*shape), strides=numbers(*strides))
    found = read(save(tmp_path / "x.pt", state(a=view)))["a"]
    expected = np.empty(shape, np.float32)
    for index in np.ndindex(*shape):
        expected[index] = VALUES[offset + sum(i * s for i, s in zip(index, strides, strict=True))]
    assert found.shape == shape
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)


def test_a_parameter_is_its_tensor(tmp_path: Path) -> None:
    parameter = name("torch._utils", "_rebuild_parameter") + group(tensor(), b"\x88", ORDERED)
    found = read(save(tmp_path / "x.pt", state(a=parameter + b"R")))
    np.testing.assert_array_equal(found["a"], VALUES.reshape(2, 3))


def test_a_file_without_byte_order_is_little_endian(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("archive/data.pkl", GOOD)
        archive.writestr("archive/data/0", VALUES.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "x.pt")["b"], [1, 4])


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    count = 1 << 20
    shape, strides = numbers(count), numbers(1)
    tensors = {f"t{i}": tensor(storage(str(i), count), 0, shape, strides) for i in range(4)}
    members = {f"data/{i}": bytes(4 * count) for i in range(4)}
    path = save(tmp_path / "x.pt", state(**tensors), **members)
    with open_state_dict(path) as found:
        peak = peak_bytes(lambda: [found.read(key).size for key in found.tensors])
    assert 4 * count <= peak < 4 * count + 500_000


def test_reading_after_closing_says_so() -> None:
    with open_state_dict(GOLDEN / "state.pt") as found:
        pass
    with pytest.raises(ClosedError, match="closed"):
        found.read("half")


def test_a_tensor_that_is_not_there_is_named() -> None:
    with (
        open_state_dict(GOLDEN / "state.pt") as found,
        pytest.raises(FormatError, match=r"state\.pt: there is no tensor 'trunk\.0\.bias'"),
    ):
        found.read("trunk.0.bias")


def test_a_checkpoint_with_a_state_dict_inside_names_its_keys(tmp_path: Path) -> None:
    inner = ORDERED + b"(" + text("w") + tensor() + b"u"
    lists = b"](K\x01G?\xf0\0\0\0\0\0\0e"
    path = save(tmp_path / "x.pt", state(epoch=number(3), state_dict=inner, history=lists))
    with pytest.raises(FormatError) as caught:
        open_state_dict(path)
    assert str(caught.value).endswith(
        "no flat dict of tensors: 'epoch' is 3, 'state_dict' is a dict of 1, "
        "'history' is a list of 2"
    )
    assert caught.value.hints == [
        "Save the inner dict alone: torch.save(checkpoint['state_dict'], path)."
    ]


def agrees_or_refuses(path: Path) -> bool:
    """Whether a file is read, and then every tensor is as it was declared."""
    try:
        with open_state_dict(path) as found:
            check(found)
    except FormatError:
        return False
    return True


def check(found: StateDict) -> None:
    for key, info in found.tensors.items():
        array = found.read(key)
        assert array.shape == info.shape
        assert array.dtype == {"f32": "<f4", "f16": "<f2", "bf16": "<u2"}[info.dtype]
        assert array.nbytes <= 10_000


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    dice, path = random.Random(seed), tmp_path / "x.pt"
    whole = (GOLDEN / "state.pt").read_bytes()
    outcomes = set()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.choice([1, 1, 3])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        outcomes.add(agrees_or_refuses(path))
    assert outcomes == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_flipped_opcodes_are_refused_or_harmless(tmp_path: Path, seed: int) -> None:
    dice, outcomes = random.Random(seed), set()
    for _ in range(300):
        data = bytearray(GOOD)
        for _ in range(dice.choice([1, 1, 2])):
            at, size = dice.randrange(len(data)), dice.choice([0, 1, 1, 1, 2])
            data[at : at + size] = dice.randbytes(dice.choice([0, 1, 1, 1, 2]))
        outcomes.add(agrees_or_refuses(save(tmp_path / "x.pt", bytes(data))))
    assert outcomes == {True, False}
