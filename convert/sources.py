"""What is told of a source, and copied from beside its weights."""

from __future__ import annotations

from pathlib import Path

from paw_mlx import hub
from paw_mlx.formats.untrusted import read_bytes

MAX_TEXT_BYTES = 64 << 20
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
# What is copied as it is, where it is there.
TEXTS = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def read_texts(folder: Path) -> dict[str, bytes]:
    """Read the small files of a folder that a conversion copies, by name."""
    paths = [folder / name for name in TEXTS]
    return {path.name: read_bytes(path, MAX_TEXT_BYTES) for path in paths if path.exists()}


def source_name(source: Path) -> str:
    """Return the repo of what lies in the Hugging Face cache, or else a file's or folder's name."""
    return hub.origin(source) or source.resolve().name
