"""A published compiler, checked before anything is made of it.

    meta.json       the numbers that everything else has to agree with
    compiler/       the encoder: every tensor that the model has, of its shape, a float
    lora_mapper.pt  the mapper: N bases of rank r for each module, and L * M * N * 2 coefficients

Weights are not read here, only what files say of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paw_mlx.convert.sources import MAX_TEXT_BYTES, TOKENIZER, read_texts, source_name
from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.errors import FormatError, NotFound
from paw_mlx.families import family_of
from paw_mlx.files import find_files
from paw_mlx.formats.checkpoint import (
    ENCODER,
    META,
    PUBLISHED_MAPPER,
    Checkpoint,
    Shapes,
    check_fit,
    check_mapper,
    misfits,
)
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.formats.tensors import FLOATS, safetensors_index
from paw_mlx.formats.untrusted import json_object, read_bytes, shown
from paw_mlx.interpreter.base.tensors import shapes_of
from paw_mlx.interpreter.models import encoder_args, llama


@dataclass(frozen=True)
class Upstream:
    """A published compiler; `shapes` are the encoder's tensors, `files` where each lies."""

    path: Path
    meta: Mapping[str, Any]
    config: dict[str, Any]
    texts: dict[str, bytes]
    shapes: Shapes
    files: dict[str, Path]

    @property
    def name(self) -> str:
        return source_name(self.path)

    @property
    def num_layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    def layers(self) -> list[list[str]]:
        """Return the names of the tensors outside the layers, then those in each layer."""
        groups: list[list[str]] = [[] for _ in range(self.num_layers + 1)]
        for name in self.shapes:
            layer = re.match(r"model\.layers\.(\d+)\.", name)
            groups[int(layer[1]) + 1 if layer else 0].append(name)
        return groups

    def stamp(self, *options: object) -> str:
        """Return one hash of the source and of what is made of it.

        Of the mapper, its ZIP's list is hashed.
        """
        with zipfile.ZipFile(self.path / PUBLISHED_MAPPER) as archive:
            members = [(m.filename, m.file_size, m.CRC) for m in archive.infolist()]
        texts = {name: hashlib.sha256(data).hexdigest() for name, data in self.texts.items()}
        weights = fingerprint(self.path / ENCODER)
        known = [weights, members, dict(self.meta), self.config, texts, options]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def read_upstream(source: Path) -> Upstream:
    """Read and check a published compiler's folder; NotFound or FormatError."""
    folder, pt = source / ENCODER, source / PUBLISHED_MAPPER
    for path in (source / META, folder / "config.json", folder / TOKENIZER, pt):
        if not path.exists():
            missing = path.relative_to(source)
            raise NotFound(f"{source} is no published compiler: it has no {missing}")
    meta = Checkpoint.read(source).record
    config = json_object(read_bytes(folder / "config.json", MAX_TEXT_BYTES), "config.json")
    model = llama.Model(encoder_args(config))  # the one that will run it; nothing is evaluated
    shapes = {name: shape for name, shape in shapes_of(model).items() if name != "lm_head.weight"}
    texts = read_texts(folder)
    files = _find_files(folder, shapes, family_of(config).ignored)
    with open_state_dict(pt) as state:
        mapper = {name: info.shape for name, info in state.tensors.items()}
    width = check_mapper(mapper, meta).hidden_size
    if width != config["hidden_size"]:
        raise FormatError(
            f"the mapper takes {width} values, and the encoder gives {config['hidden_size']}"
        )
    return Upstream(source, meta, config, texts, shapes, files)


def _find_files(folder: Path, shapes: Shapes, ignored: str) -> dict[str, Path]:
    """Find the file of every tensor; FormatError unless all are there, once, of these shapes."""
    surplus = re.compile(rf"lm_head\..*|{ignored}")
    files: dict[str, Path] = {}
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for file in find_files(folder, "*.safetensors"):
        for name, slot in safetensors_index(file).items():
            if surplus.fullmatch(name):
                continue
            if name in files:
                problems.append(f"{shown(name)} is in {files[name].name} and in {file.name}")
            if slot.dtype not in FLOATS.values():
                problems.append(f"{shown(name)} is {shown(slot.dtype)}, no float")
            files[name], found[name] = file, slot.shape
    check_fit([*problems, *misfits(shapes, found)], "encoder")
    return files
