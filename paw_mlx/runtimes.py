"""Runtimes: what the official SDK runs a program on, one pinned file of a base.

The SDK knows two of its own, for Qwen3-0.6B and GPT-2. A program for another base says in
`meta.json` which runtime it wants, by an id that means one file for ever; a manifest, which a
server gives (`paw-mlx serve`), says where the file is to be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .profiles import PROFILES, find_profile
from .program import PLACEHOLDER

MANIFEST_VERSION = 1  # of those that have no images
_OF_THE_SDK = {"qwen3-0.6b": "qwen3-0.6b-q6_k", "gpt2": "gpt2-q8_0"}


@dataclass(frozen=True)
class Runtime:
    """A base's file. The SDK keeps files by their names alone: no two runtimes share one."""

    id: str
    base: str
    file: str
    bytes: int
    sha256: str

    def manifest(self, url: str) -> dict[str, Any]:
        """Return what the SDK has to know to run programs on the file, to be had at an address."""
        profile = PROFILES[self.base]
        return {
            "runtime_id": self.id,
            "manifest_version": MANIFEST_VERSION,
            "interpreter": profile.repo,
            "adapter_format": "gguf_lora",
            "prompt_template": {"format": "rendered_text", "placeholder": PLACEHOLDER},
            "program_assets": {"adapter_filename": "adapter.gguf"},
            "local_sdk": {
                "supported": True,
                "n_ctx": profile.window,
                "base_model": {
                    "file": self.file,
                    "url": url,
                    "size_bytes": self.bytes,
                    "sha256": self.sha256,
                },
            },
        }


RUNTIMES = {
    runtime.id: runtime
    for runtime in (
        Runtime(
            id="smollm2-135m-q4_1",
            base="smollm2-135m",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    )
}


def runtime_of(interpreter: str) -> Runtime | None:
    """Return the runtime of a base that the SDK does not know; None for its own, and others."""
    profile = find_profile(interpreter)
    return next((one for one in RUNTIMES.values() if profile and one.base == profile.name), None)


def runtime_id_of(interpreter: str) -> str | None:
    """Return the id of the runtime of a base, be it the SDK's own; None if it has none."""
    profile = find_profile(interpreter)
    if profile and profile.name in _OF_THE_SDK:
        return _OF_THE_SDK[profile.name]
    runtime = runtime_of(interpreter)
    return runtime.id if runtime else None


def with_runtime(meta: Mapping[str, Any], interpreter: str) -> dict[str, Any]:
    """Return a program's meta, with the id of its runtime where the SDK would not know it.

    What it says of runtimes already stays.
    """
    runtime = runtime_of(interpreter)
    if runtime is None or meta.get("runtime") or meta.get("runtime_id"):
        return dict(meta)
    return {**meta, "runtime_id": runtime.id, "runtime_manifest_version": MANIFEST_VERSION}
