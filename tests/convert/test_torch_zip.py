"""Archives that torch did not write, and broken ones: one sentence each."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pickles import GOLDEN, GOOD, VALUES, numbers, read, refusal, save, state, storage, tensor

from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.errors import FormatError, NotFound

WHOLE = "archive/data.pkl"


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
