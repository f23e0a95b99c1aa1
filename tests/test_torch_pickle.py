"""Reading torch's files without torch: what is read is right, the rest is one sentence.

Pickles are put together from opcodes here, byte by byte, since no honest writer makes most of
them. `LIVE` holds those that do harm when Python's own `pickle` loads them, which a test proves.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paw_mlx.convert.torch_pickle import StateDict, open_state_dict
from paw_mlx.errors import ClosedError, FormatError, NotFound

GOLDEN = Path(__file__).parent / "golden" / "torch"
WHOLE = "archive/data.pkl"


# Opcodes.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def group(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def numbers(*values: int) -> bytes:
    return group(*map(number, values))


ORDERED = name("collections", "OrderedDict") + b")R"
REBUILD = name("torch._utils", "_rebuild_tensor_v2")
FLOAT = name("torch", "FloatStorage")


def storage(key: str = "0", count: int = 6, kind: bytes = FLOAT) -> bytes:
    return group(text("storage"), kind, text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    store: bytes = storage(),
    offset: int = 0,
    shape: bytes = numbers(2, 3),
    strides: bytes = numbers(3, 1),
    rest: bytes = b"\x89" + ORDERED,
) -> bytes:
    return REBUILD + group(store, number(offset), shape, strides, rest) + b"R"


def state(**values: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in values.items())
    return b"\x80\x02" + ORDERED + b"(" + items + b"u."


VALUES = np.arange(6, dtype="<f4")
GOOD = state(a=tensor(), b=tensor(offset=1, shape=numbers(2), strides=numbers(3)))


# Archives.


def save(path: Path, data: bytes = GOOD, **members: bytes) -> Path:
    """An archive as torch lays it out, with the storage `data/0` of six floats."""
    found = {"data.pkl": data, "byteorder": b"little", "data/0": VALUES.tobytes()} | members
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in found.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{member}"), content)
    return path


def read(path: Path) -> dict[str, np.ndarray]:
    with open_state_dict(path) as found:
        return {tensor_name: found.read(tensor_name) for tensor_name in found.tensors}


def refusal(path: Path) -> str:
    """What the one sentence says about a file that must be refused."""
    with pytest.raises(FormatError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 600
    return message.removeprefix(f"{path}: ")


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


# Nothing is executed.


def live(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Opcodes with which `pickle` creates the file `marker`, and what a refusal names."""
    command, code = text(f"touch {marker}"), text(f"open({str(marker)!r}, 'w').close()")
    system = name("os", "system")
    mapped = name("builtins", "map") + group(system, b"](" + command + b"e")
    return {
        "os.system": (system + command + b"\x85R", "'os.system'"),
        "eval": (name("builtins", "eval") + code + b"\x85R", "'builtins.eval'"),
        "stack global": (
            b"\x8c\x05posix\x8c\x06system\x93" + command + b"\x85R",
            "'posix.system'",
        ),
        "reduce of a reduce": (
            name("operator", "methodcaller")
            + text("touch")
            + b"\x85R"
            + name("pathlib", "Path")
            + text(str(marker))
            + b"\x85R\x85R",
            "'operator.methodcaller'",
        ),
        "inst": (b"(" + command + b"ios\nsystem\n", "INST 'os system'"),
        "obj": (b"(" + system + command + b"o", "'os.system'"),
        "newobj": (name("builtins", "tuple") + mapped + b"\x81\x85\x81", "'builtins.tuple'"),
        "newobj_ex": (
            name("builtins", "tuple") + mapped + b"}\x92\x85}\x92",
            "'builtins.tuple'",
        ),
    }


PAYLOADS = list(live(Path()))
PLACES: dict[str, Callable[[bytes], bytes]] = {
    "everything": lambda body: b"\x80\x02" + body + b".",
    "a value": lambda body: state(a=tensor(), b=body),
    "the state of the dict": lambda body: GOOD[:-1] + body + b"b.",
    "a persistent id": lambda body: state(a=body + b"Q"),
    "a tensor's shape": lambda body: state(a=tensor(shape=body)),
    "a storage's type": lambda body: state(a=tensor(storage(kind=body))),
    "after the dict": lambda body: GOOD[:-1] + body + b".",
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_the_payloads_are_real(tmp_path: Path, payload: str) -> None:
    body, _ = live(tmp_path / "marker")[payload]
    pickle.loads(PLACES["everything"](body))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("payload", PAYLOADS)
def test_code_is_refused_by_name_and_never_run(tmp_path: Path, payload: str, place: str) -> None:
    body, found = live(tmp_path / "marker")[payload]
    assert found in refusal(save(tmp_path / "x.pt", PLACES[place](body)))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize(
    "found",
    [
        "torch.load",
        "torch.storage._load_from_bytes",
        "torch.LongStorage",
        "torch.DoubleStorage",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_parameter_with_state",
        "numpy.core.multiarray._reconstruct",
        "numpy.load",
        "collections.Counter",
        "collections.OrderedDict.update",
        "builtins.getattr",
        "__builtin__.eval",
        "paw_mlx.files.replacing",
    ],
)
@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL"])
def test_every_other_global_is_refused_by_name(tmp_path: Path, found: str, opcode: str) -> None:
    module, attribute = found.rsplit(".", 1)
    asked = name(module, attribute)
    if opcode == "STACK_GLOBAL":
        asked = text(module) + text(attribute) + b"\x93"
    said = refusal(save(tmp_path / "x.pt", state(a=asked + b")R")))
    assert said.startswith(f"data.pkl asks for '{found}', and may only ask for collections.")


NESTED = b"".join([b")", b"\x85" * 100_000])
CYCLE = b"]q\x07h\x07a"
FULL = b"}q\x07" + text("self") + b"h\x07s"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # opcodes
        (b"\x80\x02\x82\x05.", "opcode EXT1"),
        (b"\x80\x02\x83\x05\x05.", "opcode EXT2"),
        (b"\x80\x02\x84\x05\x05\x05\x05.", "opcode EXT4"),
        (b"S'a'\n.", "opcode STRING 'a'"),
        (b"Pkey\n.", "opcode PERSID 'key'"),
        (b"\x80\x02N2.", "opcode DUP"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "opcode EMPTY_SET"),
        (b"\x80\x02C\x01a.", "opcode SHORT_BINBYTES"),
        (b"\x80\x02\xff.", "unknown"),
        (b"", "exhausted before seeing STOP"),
        (GOOD[:-1], "exhausted before seeing STOP"),
        (b"\x80\x02ctorch\n\xff\n.", "no whole pickle"),
        (b"\x80\x02ctorch\n\\q\n.", "data.pkl"),
        # sizes that nothing has
        (b"\x80\x02X\xff\xff\xff\x7f.", "expected 2147483647 bytes"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b".", "expected 4611686018427387904 bytes"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".", "expected 4611686018427387904 bytes"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b".", "sys.maxsize"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "not enough data"),
        (b"\x80\x02\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".", "opcode LONG4"),
        (b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".", "an integer of 2039 bits (limit 63)"),
        (b"I" + b"9" * 100_000 + b"\n.", "data.pkl"),
        (b"\x80\x02r\xff\xff\xff\x7f.", "never put on the stack"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "data.pkl holds None"),
        (b"\x80\x02" + b"N" * 1_000_001 + b".", "more than 1000000 opcodes"),
        (bytes((16 << 20) + 1), "data.pkl has 16777217 bytes (limit 16777216)"),
        # stack, marks and memo
        (b"\x80\x02.", "ends with 0 values and 0 open marks"),
        (b"\x80\x02NN.", "ends with 2 values"),
        (b"\x80\x02(N.", "1 open marks"),
        (b"\x80\x02t.", "a mark that it never set"),
        (b"\x80\x02u.", "a mark that it never set"),
        (b"\x80\x02(N\x86.", "takes 2 values from the stack, and there are 1"),
        (b"\x80\x02N(R.", "takes 2 values from the stack, and there are 0"),
        (b"\x80\x02Q.", "takes 1 values from the stack, and there are 0"),
        (b"\x80\x02h\x05.", "recalls value 5"),
        (b"\x80\x02j\xff\xff\xff\x7f.", "recalls value 2147483647"),
        (b"\x80\x02q\x00.", "never put on the stack"),
        (b"\x80\x04\x94.", "never put on the stack"),
        (b"\x80\x02N\x93.", "takes 2 values"),
        (b"\x80\x02NN\x93.", "asks for None in None"),
        (b"\x80\x02NNa.", "appends to None"),
        (b"\x80\x02](Ns.", "takes 2 values"),
        (b"\x80\x02NNNs.", "sets an item of None"),
        (b"\x80\x02}(NNNu.", "from 3 values, not from pairs"),
        (b"\x80\x02}]Ns.", "a list of 0 for a dict's key"),
        (b"\x80\x02})Ns.", "a tuple of 0 for a dict's key"),
        (b"\x80\x02b.", "takes 1 values"),
        (b"\x80\x02N}b.", "gives None the state a dict of 0"),
        (b"\x80\x02}Nb.", "gives a dict of 0 the state None"),
        # self references and depth
        (b"\x80\x02" + CYCLE + b".", "data.pkl holds a list of 1"),
        (b"\x80\x02" + CYCLE + b"Q.", "a list of 1 for a persistent id"),
        (b"\x80\x02" + FULL + b".", "'self' is a dict of 1"),
        (b"\x80\x02" + NESTED + b".", "data.pkl holds a tuple of 1"),
        (b"\x80\x02" + NESTED + b"Q.", "a tuple of 1 for a persistent id"),
        (b"\x80\x02" + REBUILD + NESTED + b"R.", "data.pkl makes a tensor"),
        (state(a=tensor(shape=b"]\x85", strides=b"]\x85")), "a list of 0, a list of 0, not counts"),
        (state(a=tensor(shape=CYCLE + b"\x85", strides=numbers(1))), "a list of 1, not counts"),
        # calls
        (b"\x80\x02)R.", "takes 2 values"),
        (b"\x80\x02])R.", "calls a list of 0"),
        (b"\x80\x02" + FLOAT + b")R.", "calls the global 'torch.FloatStorage'"),
        (b"\x80\x02" + ORDERED + b")R.", "calls a dict of 0"),
        (b"\x80\x02" + REBUILD + b"]R.", "with a list of 0, not with a tuple"),
        (b"\x80\x02" + REBUILD + tensor() + b"R.", "with a TensorInfo, not with a tuple"),
        (b"\x80\x02" + REBUILD + b")R.", "data.pkl makes a tensor"),
        (b"\x80\x02" + name("collections", "OrderedDict") + b"]\x85R.", "1 arguments, not of none"),
        (b"\x80\x02" + name("torch._utils", "_rebuild_parameter") + b")R.", "makes a parameter"),
        # storages
        (state(a=storage("../x")), "a storage '../x', and keys are plain"),
        (state(a=storage("/etc/passwd")), "a storage '/etc/passwd'"),
        (state(a=storage("0/../0")), "a storage '0/../0'"),
        (state(a=storage("")), "a storage ''"),
        (state(a=storage("7")), "'a' is a Storage"),
        (state(a=tensor(storage("7"))), "data/7, which is not in the archive"),
        (state(a=tensor(storage(count=7))), "data/0 has 24 bytes, and 7 elements of f32 have 28"),
        (state(a=tensor(storage(kind=name("torch", "HalfStorage")))), "6 elements of f16 have 12"),
        (state(a=tensor(storage(count=2**60))), "1152921504606846976 elements of f32"),
        (state(a=storage(count=-1)), "a storage of -1 elements"),
        (state(a=storage(count=2**63)), "an integer of 64 bits"),
        (state(a=storage(kind=REBUILD)), "a tuple of 5 for a persistent id"),
        (state(a=group(text("storage"), FLOAT, text("0")) + b"Q"), "a tuple of 3 for a persistent"),
        (state(a=group(text("module"), *[b"N"] * 4) + b"Q"), "a tuple of 5 for a persistent id"),
        # tensors
        (
            state(a=tensor(shape=numbers(7), strides=numbers(0))),
            "shape (7,), 7 elements, in data/0",
        ),
        (state(a=tensor(offset=1)), "ends with element 7 of data/0, which has 6"),
        (state(a=tensor(offset=2**62)), "which has 6"),
        (state(a=tensor(strides=numbers(4, 1))), "ends with element 7 of data/0, which has 6"),
        (state(a=tensor(offset=-1)), "-1, not counts"),
        (state(a=tensor(strides=numbers(-3, 1))), "-3, not counts"),
        (state(a=tensor(shape=numbers(2, -3))), "-3, not counts"),
        (state(a=tensor(shape=numbers(6))), "1 dimensions and 2 strides"),
        (state(a=tensor(shape=numbers(*[1] * 33), strides=numbers(*[1] * 33))), "33 dimensions"),
        (state(a=tensor(shape=numbers(2**62, 2**62))), "which has 6"),
        (state(a=tensor(shape=numbers(0, 2**62))), "without elements"),
        (state(a=tensor(shape=b"\x88\x88\x86")), "True, True, not counts"),
        (state(a=tensor(rest=b"\x89}" + b"}" + text("neg") + b"\x88s")), "metadata: a dict of 1"),
        (state(a=tensor(rest=b"\x89")), "data.pkl makes a tensor"),
        (state(a=tensor(rest=b"\x89}}}")), "data.pkl makes a tensor"),
        # what is no flat state dict
        (b"\x80\x02].", "data.pkl holds a list of 0, not a dict of tensors"),
        (b"\x80\x02" + tensor() + b".", "data.pkl holds a TensorInfo, not a dict"),
        (b"\x80\x02}K\x05" + tensor() + b"s.", "names a tensor 5"),
        (state(**{"a\nb": tensor()}), "names a tensor 'a\\nb'"),
        (b"\x80\x02}X\x03\0\0\0\xed\xa0\x80" + tensor() + b"s.", "names a tensor '\\ud800'"),
        (state(**dict.fromkeys(map(str, range(10_001)), b"N")), "10001 values (limit 10000)"),
    ],
)
def test_a_hostile_pickle_gives_one_sentence(tmp_path: Path, data: bytes, said: str) -> None:
    path = save(tmp_path / "x.pt", data)
    assert said in refusal(path)


def test_refusing_a_hostile_pickle_allocates_next_to_nothing(tmp_path: Path) -> None:
    huge = struct.pack("<Q", 2**62)
    for data in (
        b"\x80\x04\x8d" + huge + b".",
        b"\x80\x05\x96" + huge + b".",
        b"\x80\x02X\xff\xff\xff\x7f.",
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        state(a=tensor(storage(count=2**60))),
        state(a=tensor(shape=numbers(2**31, 2**31))),
        state(a=tensor(shape=numbers(0, 2**62))),
    ):
        path = save(tmp_path / "x.pt", data)
        refusal(path)
        assert peak_bytes(lambda: refusal(path)) < 1_000_000  # noqa: B023


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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


# Archives that torch did not write, and broken ones.


def patched(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.",
            "torch.save's legacy format",
        ),
        (b"\x80\x04}.", "a bare pickle"),
        (b"".ljust(257, b"\0") + b"ustar", "a tar archive"),
        (b"", "this begins with b''"),
        (b"GGUF\3\0\0\0", "this begins with b'GGUF'"),
        (b"PK\3\4", "cut short"),
        (b"PK\3\4".ljust(1000, b"\0"), "cut short"),
        (b"PK\3\4" + b"PK\5\6".ljust(22, b"\0"), "no data.pkl"),
    ],
)
def test_what_is_no_archive_of_torch_is_called_what_it_is(
    tmp_path: Path, data: bytes, said: str
) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    assert said in refusal(tmp_path / "x.pt")


def test_nothing_at_the_path_and_no_file_there_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no such file: .*x\.pt"):
        open_state_dict(tmp_path / "x.pt")
    with pytest.raises(FormatError, match="not a regular file"):
        open_state_dict(tmp_path)


@pytest.mark.parametrize("member", ["constants.pkl", "code/__torch__.py"])
def test_torchscript_is_refused_for_its_code(tmp_path: Path, member: str) -> None:
    said = refusal(save(tmp_path / "x.pt", **{member: b""}))
    assert said == f"this is a TorchScript archive, with code in it ('archive/{member}')"


def test_the_other_byte_order_is_refused(tmp_path: Path) -> None:
    assert "byte order is b'big'" in refusal(save(tmp_path / "x.pt", byteorder=b"big"))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["archive/data/0"], "no data.pkl"),
        (["data.pkl"], "'data.pkl' is not in the folder 'data.pkl'"),
        ([WHOLE, "other/data/0"], "'other/data/0' is not in the folder 'archive'"),
        ([WHOLE, "../data/0"], "'../data/0' is not in the folder 'archive'"),
        ([WHOLE, "/archive/data/0"], "is not in the folder"),
        ([WHOLE, "archive/data/0", "archive/data/0"], "'archive/data/0' is there twice"),
        ([WHOLE, *(f"archive/{i}" for i in range(10_100))], "lists 10101 members in"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_of_another_shape_is_refused(
    tmp_path: Path, members: list[str], said: str
) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for member in members:
            archive.writestr(member, GOOD if member == WHOLE else VALUES.tobytes())
    assert said in refusal(tmp_path / "x.pt")


def test_a_list_of_members_too_long_to_read_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.pt", **{f"{i:060000}": b"" for i in range(80)})
    assert re.match(r"the archive lists 83 members in 48\d{5} bytes \(limits", refusal(path))


def test_the_size_that_zip64_declares_is_the_one_that_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes((GOLDEN / "protocol4.pt").read_bytes())
    count_at = path.stat().st_size - 98 + 32

    def change(data: bytearray) -> None:
        data[count_at : count_at + 8] = struct.pack("<Q", 2**40)

    assert f"lists {2**40} members" in refusal(patched(path, change))


def test_members_written_for_zip64_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr(WHOLE, GOOD)
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            member.write(VALUES.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "x.pt")["b"], [1, 4])


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_members_are_refused(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", method) as archive:
        archive.writestr(WHOLE, GOOD)
    assert f"'{WHOLE}' is compressed (method {method})" in refusal(tmp_path / "x.pt")


def headers(data: bytes, member: str) -> tuple[int, int]:
    """Where a member's local header and its entry in the list of members begin."""
    encoded = member.encode()
    return data.index(encoded) - 30, data.rindex(encoded) - 46


@pytest.mark.parametrize(
    ("local", "listed", "said"),
    [
        ({6: b"\1"}, {}, "is encrypted"),
        ({}, {8: b"\1"}, "is encrypted"),
        ({8: b"\x08"}, {}, "is compressed (method 8)"),
        ({}, {10: b"\x08"}, "is compressed (method 8)"),
        ({}, {20: b"\x17"}, "is compressed"),
        ({18: b"\x17"}, {}, "has 24 bytes"),
        ({22: b"\x17"}, {}, "has 24 bytes, or 23"),
        ({}, {20: b"\xff" * 4, 24: b"\xff" * 4}, "data/0"),
        ({}, {20: b"\xff\xff\xff\x7f" * 2}, "has 2147483647 bytes, or 24"),
        ({6: b"\x08"}, {20: b"\xff\xff\xff\x7f" * 2}, "ends at byte 21474"),
        ({0: b"XX"}, {}, "is not where the archive says"),
        ({30: b"A"}, {}, "is not where the archive says"),
        ({}, {42: b"\1"}, "is not where the archive says"),
        ({}, {42: b"\xff\xff\xff\x7f"}, "this is no readable ZIP"),
    ],
)
def test_headers_that_contradict_the_file_are_refused(
    tmp_path: Path, local: dict[int, bytes], listed: dict[int, bytes], said: str
) -> None:
    def change(data: bytearray) -> None:
        starts = headers(bytes(data), "archive/data/0")
        for start, fields in zip(starts, (local, listed), strict=True):
            for at, value in fields.items():
                data[start + at : start + at + len(value)] = value

    assert said in refusal(patched(save(tmp_path / "x.pt"), change))


@pytest.mark.parametrize("at", [*range(24)])
def test_a_damaged_storage_is_noticed(tmp_path: Path, at: int) -> None:
    def change(data: bytearray) -> None:
        data[data.index(VALUES.tobytes()) + at] ^= 1

    path = patched(save(tmp_path / "x.pt", state(a=tensor())), change)
    assert re.fullmatch(
        r"data/0 is damaged: its checksum is [0-9a-f]{8}, not [0-9a-f]{8}", refusal(path)
    )


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    def change(data: bytearray) -> None:
        for member in ("archive/data.pkl", "archive/byteorder", "archive/data/0"):
            local, listed = headers(bytes(data), member)
            data[local + 14 : local + 18] = data[listed + 16 : listed + 20] = bytes(4)

    found = read(patched(save(tmp_path / "x.pt"), change))
    np.testing.assert_array_equal(found["a"], VALUES.reshape(2, 3))


def test_a_file_cut_short_while_it_is_open_gives_one_sentence(tmp_path: Path) -> None:
    count = 100_000
    info = tensor(storage(count=count), 0, numbers(count), numbers(1))
    path = save(tmp_path / "x.pt", state(a=info), **{"data/0": bytes(4 * count)})
    with open_state_dict(path) as found:
        os.truncate(path, 200_000)
        with pytest.raises(FormatError, match=r"x\.pt: data/0 ends after \d+ of 400000 bytes"):
            found.read("a")


@pytest.mark.parametrize("source", ["by hand", "by torch"])
def test_a_file_cut_at_any_byte_gives_one_sentence(tmp_path: Path, source: str) -> None:
    path = tmp_path / "x.pt"
    whole = (GOLDEN / "protocol4.pt").read_bytes()
    if source == "by hand":
        whole = save(path).read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert refusal(path)


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
