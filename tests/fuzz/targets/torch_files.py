"""What torch saves: the pickle alone, and the archive around it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import numpy as np
from torch_adapters import named
from torch_files import torch_save
from upstreams import write_upstream

from paw_mlx.convert import torch_adapter
from paw_mlx.convert.pickle_machine import Machine
from paw_mlx.convert.torch_pickle import _take_flat, _take_nested, open_state_dict
from paw_mlx.convert.torch_tensors import CALLS, DTYPES, MORE_CALLS, STORAGES, read_storage
from paw_mlx.convert.upstream import read_upstream
from paw_mlx.errors import PawError

from ..json_values import json_mutation
from ..opcodes import pickle_mutation
from ..structures import members_of, packed, zip_of
from ..target import Target
from .containers import GOLDEN


def _archives(sandbox: Path) -> list[bytes]:
    """Return archives of torch's own, and of ours: flat, nested, of odd values and dtypes."""
    made = [path.read_bytes() for path in sorted((GOLDEN / "torch").glob("*.pt"))]
    values = {
        "flat": named(),
        "nested": {
            "state_dict": named(),
            "epoch": 3,
            "args": {"lr": 1e-3, "name": "x", "more": [1, (2, None, True)]},
            "odd": np.arange(4, dtype=np.int64),
        },
    }
    for name, value in values.items():
        made.append(torch_save(sandbox / f"{name}.pt", value).read_bytes())
    return [data for data in made if len(data) < 40_000]


def pickle(sandbox: Path) -> Target:
    def read(data: bytes) -> None:
        with suppress(PawError):
            _take_flat(Machine(CALLS, STORAGES, read_storage).run(data))
        machine = Machine(CALLS | MORE_CALLS, DTYPES, read_storage)
        _take_nested(machine.run(data), torch_adapter.NESTED)

    seeds = [
        held
        for archive in _archives(sandbox)
        for name, held in members_of(archive).items()
        if name.endswith("data.pkl")
    ]
    return Target("pickle", seeds, read, pickle_mutation)


def torch_zip(sandbox: Path) -> Target:
    path = sandbox / "x.pt"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        torch_adapter.is_torch(path)
        with suppress(PawError), open_state_dict(path) as state:
            for name in state.tensors:
                state.read(name)
        torch_adapter.read(path, None, alpha=8.0)

    return Target("torch-zip", _archives(sandbox), read, packed({"data.pkl": pickle_mutation}))


def compiler(sandbox: Path) -> Target:
    """A published compiler: its meta.json, its mapper, its encoder's config; the weights stay."""
    folder = write_upstream(sandbox / "compiler")
    places = ("meta.json", "lora_mapper.pt", "compiler/config.json")

    def read(data: bytes) -> None:
        for name, held in members_of(data).items():
            if name in places:
                (folder / name).write_bytes(held)
        upstream = read_upstream(folder)
        mx.eval(mx.random.state[0])  # the model's draws hold on to those before
        upstream.layers()
        upstream.stamp(8)
        with open_state_dict(folder / "lora_mapper.pt") as state:
            for name in state.tensors:
                state.read(name)

    seed = zip_of({name: (folder / name).read_bytes() for name in places})
    mapper = packed({"data.pkl": pickle_mutation})
    return Target("compiler", [seed], read, packed({".json": json_mutation, ".pt": mapper}))
