"""Programs in files: the ZIP, the folder, the legacy container, and what meta.json says."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from paw_mlx import cases, formats
from paw_mlx.errors import PawError

from ..gguf_fields import gguf_mutation
from ..json_values import json_mutation
from ..mutate import text_mutation
from ..structures import legacy_mutation, members_of, packed, safetensors_mutation, zip_of
from ..target import Target

GOLDEN = Path(__file__).parents[2] / "golden"
BY_END = {
    "adapter.gguf": gguf_mutation,
    ".json": json_mutation,
    ".txt": text_mutation,
    ".safetensors": safetensors_mutation,
}


def folder_bytes(folder: Path) -> bytes:
    """Return a folder's files, packed so that they are one input."""
    return zip_of({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def unpack(data: bytes, folder: Path) -> None:
    """Make a folder of the files that an input holds; their names stay in it."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for name, held in members_of(data).items():
        plain = name.replace("/", "_").replace("\0", "_")[:60]
        if plain not in ("", ".", ".."):
            (folder / plain).write_bytes(held)


def use(path: Path) -> None:
    """Read all that a file or folder holds, in every way that it is read."""
    with suppress(PawError):
        formats.check_rewritable(path)
    formats.summarize(path)
    program = formats.load(path)
    program.digest()
    assert program.adapter
    for site in program.adapter.sites:
        program.adapter.delta(site)
    cases.carried(program.meta, "x")


def paw(sandbox: Path) -> Target:
    path = sandbox / "x.paw"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        use(path)

    members = {p.name: p.read_bytes() for p in sorted((GOLDEN / "program").iterdir())}
    nested = zip_of({f"my program/{name}": held for name, held in members.items()}, 8)
    seeds = [(GOLDEN / "program.paw").read_bytes(), zip_of(members, 8), nested]
    return Target("paw", seeds, read, packed(BY_END))


def folder(sandbox: Path) -> Target:
    def read(data: bytes) -> None:
        unpack(data, sandbox / "program")
        use(sandbox / "program")

    program = folder_bytes(GOLDEN / "program")
    with_peft = {**members_of(program), **members_of(folder_bytes(GOLDEN / "peft"))}
    del with_peft["adapter.gguf"]
    mlx, peft = folder_bytes(GOLDEN / "mlx"), folder_bytes(GOLDEN / "peft")
    return Target("folder", [program, zip_of(with_peft), mlx, peft], read, packed(BY_END))


def paw_v2(sandbox: Path) -> Target:
    path = sandbox / "x.paw"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        formats.summarize(path)
        with suppress(PawError):  # its base is none that is known
            formats.load(path)

    return Target("paw-v2", [(GOLDEN / "legacy.paw").read_bytes()], read, legacy_mutation)


def meta(sandbox: Path) -> Target:
    place = sandbox / "program"
    shutil.copytree(GOLDEN / "program", place)

    def read(data: bytes) -> None:
        (place / "meta.json").write_bytes(data)
        use(place)

    return Target("meta", _metas(), read, json_mutation)


def _metas() -> list[bytes]:
    import json

    own = json.loads((GOLDEN / "program" / "meta.json").read_bytes())
    outputs = [
        {"type": "labels", "labels": ["a", "b", "c"], "threshold": 0.5, "otherwise": "x"},
        {"type": "labels", "labels": ["a", "b"], "temperature": 2.0, "priors": [-1.0, -0.5]},
        {"type": "schema", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
        {"type": "regex", "regex": "[a-z]{1,8}"},
    ]
    kept = [{"input": "a", "output": "b", "group": "g", "grade": 1}]
    return [json.dumps(own | {"output": o, "cases": kept}).encode() for o in outputs] + [
        json.dumps(own).encode()
    ]
