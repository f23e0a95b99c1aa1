"""Finder's tags: a label is one of a file's, and others stay."""

from __future__ import annotations

import plistlib
from pathlib import Path

import pytest
from made_for_mac import standing_in

from paw_mlx.errors import DiskError
from paw_mlx.mac import tags

LABELS = ("urgent", "later", "🐾 ü")


def packed(*tags: object) -> bytes:
    return plistlib.dumps(list(tags), fmt=plistlib.FMT_BINARY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", ["urgent"]),
        (packed("Red\n6", "later"), ["Red\n6", "urgent"]),
        (packed("urgent\n2", "mine"), ["urgent\n2", "mine"]),
        (packed("urgency", "later\n3", "🐾 ü"), ["urgency", "urgent"]),
        (packed(3, b"x", "mine"), ["mine", "urgent"]),
        (plistlib.dumps({"a": 1}), ["urgent"]),
        (b"no property list", ["urgent"]),
        (b"<plist><array>", ["urgent"]),
        (b"bplist00" + b"\xff" * 40, ["urgent"]),
    ],
)
def test_a_label_takes_the_place_of_others(before, after):
    made = tags.tagged(before, "urgent", LABELS)
    assert made.startswith(b"bplist00")
    assert plistlib.loads(made) == after


@pytest.fixture
def xattr(tmp_path: Path) -> str:
    """What stands in for xattr(1): attributes lie beside a file, in lines of hexadecimal."""
    body = """
how, name, path = *sys.argv[1:3], sys.argv[-1]
file = path + "." + name.rpartition(":")[2]
try:
    if how == "-px":
        data = open(file).read()
        print("\\n".join(data[n : n + 32] for n in range(0, len(data), 32)))
    else:
        assert how == "-wx"
        open(path).close()
        open(file, "w").write(sys.argv[3].upper())
except FileNotFoundError:
    sys.exit(f"xattr: No such xattr: {name}" if how == "-px" else f"xattr: No such file: {path}")
"""
    return str(standing_in(tmp_path, "xattr", body))


def test_a_file_is_tagged_again_and_again(xattr, tmp_path):
    file = tmp_path / "a 'b' $(c).txt"
    file.write_text("x")
    for label in ("later", "urgent", "urgent", "🐾 ü"):
        tags.tag(file, label, LABELS, xattr)
    stored = Path(f"{file}._kMDItemUserTags").read_text()
    assert plistlib.loads(bytes.fromhex(stored)) == ["🐾 ü"]


def test_what_cannot_be_tagged_is_one_sentence(xattr, tmp_path):
    with pytest.raises(DiskError, match=r"cannot tag .*none: xattr: No such file"):
        tags.tag(tmp_path / "none", "later", LABELS, xattr)
    with pytest.raises(DiskError, match=r"cannot run .*gone: No such file") as no_mac:
        tags.tag(tmp_path / "none", "later", LABELS, str(tmp_path / "gone"))
    assert no_mac.value.hints == ["Only macOS has it, and Finder's tags."]
