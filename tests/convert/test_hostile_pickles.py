"""Pickles that ask for more than tensors: one sentence, and nothing is executed.

No honest writer makes most of them. `live` holds those that do harm when Python's own `pickle`
loads them, which a test proves.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from pickles import (
    FLOAT,
    GOOD,
    ORDERED,
    REBUILD,
    group,
    name,
    numbers,
    peak_bytes,
    refusal,
    save,
    state,
    storage,
    tensor,
    text,
)


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
