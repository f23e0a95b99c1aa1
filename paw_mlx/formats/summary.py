"""What `inspect` shows: plain numbers and texts, no arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapter import Adapter
from ..files import find_files


@dataclass(frozen=True)
class Summary:
    """A container or adapter at a glance; of a bare adapter the program's parts are None.

    `interpreter` is the base the file names, or None; `adapter_bytes` what A and B take,
    `file_bytes` what the whole file or folder does.
    """

    layout: str
    interpreter: str | None
    num_sites: int
    layers: tuple[int, ...]
    modules: tuple[str, ...]
    ranks: tuple[int, ...]
    alphas: tuple[float, ...]
    scales: tuple[float, ...]
    dtypes: tuple[str, ...]
    num_parameters: int
    adapter_bytes: int
    file_bytes: int
    program_id: str | None = None
    spec: str | None = None
    pseudo_program: str | None = None
    template: str | None = None
    meta: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, path: Path, layout: str, adapter: Adapter, interpreter: str) -> Summary:
        """Summarize an adapter and the file or folder it came from."""
        files = find_files(path, "*") if path.is_dir() else [path]
        return cls(
            layout=layout,
            interpreter=interpreter or None,
            num_sites=len(adapter.sites),
            layers=adapter.layers,
            modules=adapter.modules,
            ranks=adapter.ranks,
            alphas=adapter.alphas,
            scales=adapter.scales,
            dtypes=adapter.dtypes,
            num_parameters=adapter.num_parameters,
            adapter_bytes=adapter.nbytes,
            file_bytes=sum(file.stat().st_size for file in files),
        )
