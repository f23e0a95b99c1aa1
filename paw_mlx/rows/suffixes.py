"""What a file's name says of its rows: their format, and how they are packed."""

from __future__ import annotations

from pathlib import Path

from ..errors import OptionError

SUFFIXES = {
    ".txt": "lines",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".db": "sqlite",
    ".sqlite": "sqlite",
    ".sqlite3": "sqlite",
}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}
_OTHERS = {
    ".json", ".xlsx", ".xls", ".ods", ".arrow", ".feather", ".orc", ".avro", ".bz2", ".xz", ".zip",
    ".tar", ".tgz",
}  # fmt: skip


def packing_of(path: Path | None) -> str | None:
    """Return how a file is packed: gzip, zstd, or None for not at all."""
    return PACKINGS.get(path.suffix.lower()) if path else None


def suffix_of(path: Path | None) -> str:
    """Return a file's suffix in small letters: of what is packed, not of the packing."""
    if path is None:
        return ""
    return (path.with_suffix("") if packing_of(path) else path).suffix.lower()


def is_log(path: Path) -> bool:
    """Return whether a file is a log by its name, perhaps a rotated one: `app.log.2.gz`."""
    return ".log" in (suffix.lower() for suffix in path.suffixes)


def format_of(path: Path | None) -> str | None:
    """Return the format that a file's name tells, None for none.

    OptionError for a suffix of rows that nobody reads here, and for a table that is packed.
    """
    suffix = suffix_of(path)
    if suffix in _OTHERS:
        raise OptionError(
            f"{path} is neither text, JSON lines, csv, Parquet nor SQLite, by its suffix",
            hint="Make it .jsonl, .csv or .txt. An input may say what it is with --format.",
        )
    found = SUFFIXES.get(suffix)
    if packing_of(path) and found in ("parquet", "sqlite"):
        raise OptionError(
            f"{path} is packed, and {suffix} is read at many places at once", hint="Unpack it."
        )
    return found
