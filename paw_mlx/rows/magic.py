"""What the first bytes of a file or a pipe tell: how it is packed, and that it is no text.

None of these begins a text in UTF-8.
"""

from __future__ import annotations

from ..errors import OptionError

_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_ON_THE_WAY = "Unpack it on the way: `{} | paw-mlx …`."
_BY_NAME = "Name the file itself: a table is read at many places at once."
_OTHERS = {
    b"\xff\xfe": ("UTF-16", "Convert it, for example with `iconv -f UTF-16 -t UTF-8`."),
    b"\xfe\xff": ("UTF-16", "Convert it, for example with `iconv -f UTF-16 -t UTF-8`."),
    b"\x1f\x8b": ("packed with gzip", _ON_THE_WAY.format("gunzip -c FILE")),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", _ON_THE_WAY.format("unzstd -c FILE")),
    b"BZh91AY&SY": ("packed with bzip2", _ON_THE_WAY.format("bunzip2 -c FILE")),
    b"\xfd7zXZ\0": ("packed with xz", _ON_THE_WAY.format("unxz -c FILE")),
    b"PK\x03\x04": ("a zip archive", _ON_THE_WAY.format("unzip -p FILE")),
    b"PAR1\x15": ("Parquet", _BY_NAME),
    b"SQLite format 3\0": ("SQLite", _BY_NAME),
}
HEAD_BYTES = max(map(len, _OTHERS))


def packing_in(head: bytes) -> str | None:
    """Return how a file is packed that begins so: gzip, zstd, or None for not at all."""
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def check_text(head: bytes, name: str) -> None:
    """Raise OptionError for what begins as no text does."""
    for magic, (what, hint) in _OTHERS.items():
        if head.startswith(magic):
            raise OptionError(f"{name} is {what}", hint=hint)
