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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten

from paw_mlx.convert.torch_pickle import open_state_dict
from paw_mlx.errors import FormatError, NotFound, listed
from paw_mlx.formats.checkpoint import ENCODER, META, PUBLISHED_MAPPER, CompilerMeta
from paw_mlx.formats.fingerprint import fingerprint
from paw_mlx.formats.tensors import FLOATS, safetensors_index
from paw_mlx.formats.untrusted import json_object, read_bytes, shown
from paw_mlx.interpreter.models import MODELS, llama
from paw_mlx.interpreter.source import model_module
from paw_mlx.profiles import Profile

MAX_TEXT_BYTES = 64 << 20
TOKENIZER = "tokenizer.json"
# What is copied as it is; only the tokenizer itself has to be there.
TEXTS: tuple[str, ...] = (TOKENIZER, "tokenizer_config.json", "generation_config.json")
TEXTS += ("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt")
TEXTS += ("chat_template.jinja", "chat_template.json")

Shapes = Mapping[str, tuple[int, ...]]


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
        """Its repo, if it lies in the Hugging Face cache, or its folder."""
        path = self.path.absolute()
        if path.parent.name == "snapshots":
            return path.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
        return path.name

    @property
    def num_layers(self) -> int:
        return int(self.config["num_hidden_layers"])

    def layers(self) -> list[list[str]]:
        """The names of the tensors outside the layers, then those in each layer."""
        groups: list[list[str]] = [[] for _ in range(self.num_layers + 1)]
        for name in self.shapes:
            layer = re.match(r"model\.layers\.(\d+)\.", name)
            groups[int(layer[1]) + 1 if layer else 0].append(name)
        return groups

    def stamp(self, *options: object) -> str:
        """One hash of the source and of what is made of it; of the mapper, its ZIP's list."""
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
    meta = CompilerMeta.read(source).record
    config = json_object(read_bytes(folder / "config.json", MAX_TEXT_BYTES), "config.json")
    shapes = _expected(config)
    names = [name for name in TEXTS if (folder / name).exists()]
    texts = {name: read_bytes(folder / name, MAX_TEXT_BYTES) for name in names}
    files = _located(folder, shapes, model_module(config).IGNORED)
    with open_state_dict(pt) as state:
        mapper = {name: info.shape for name, info in state.tensors.items()}
    check_mapper(mapper, meta)
    width = mapper["trunk.0.bias"][0]
    if width != config["hidden_size"]:
        raise FormatError(
            f"the mapper takes {width} values, and the encoder gives {config['hidden_size']}"
        )
    return Upstream(source, meta, config, texts, shapes, files)


def check_mapper(shapes: Shapes, meta: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """The mapper's modules, sorted, with (d_in, d_out).

    FormatError unless its names and shapes are those that meta.json calls for.
    """
    rank, bases = meta["lora_rank"], meta["lora_num_bases"]
    modules = sorted({name[8:] for name in shapes if re.match("[AB]_bases_.", name)})

    def size(name: str, axis: int) -> int:
        return dict(enumerate(shapes.get(name, ()))).get(axis, 0)

    hidden, rows = size("trunk.0.bias", 0), size("coeff_head.bias", 0)
    wanted: dict[str, tuple[int, ...]] = {
        "trunk.0.weight": (hidden, hidden),
        "trunk.0.bias": (hidden,),
        "coeff_head.weight": (rows, hidden),
        "coeff_head.bias": (rows,),
    }
    for module in modules:
        wanted[f"A_bases_{module}"] = (bases, rank, size(f"A_bases_{module}", 2))
        wanted[f"B_bases_{module}"] = (bases, size(f"B_bases_{module}", 1), rank)
    _check_fit(list(_misfits(wanted, shapes)), "mapper")
    if not modules or rows % (len(modules) * bases * 2):
        raise FormatError(
            f"the mapper gives {rows} coefficients, which is no whole number of layers "
            f"of {len(modules)} modules, {bases} bases and 2 matrices"
        )
    return {m: (shapes[f"A_bases_{m}"][2], shapes[f"B_bases_{m}"][1]) for m in modules}


def encoder_args(config: dict[str, Any]) -> llama.Args:
    """The sizes of an encoder; FormatError for a config that is malformed, or no encoder's."""
    Profile.from_config(config)  # checks the sizes
    module = model_module(config)
    if module.Model is not llama.Model:
        able = sorted(name for name, m in MODELS.items() if m.Model is llama.Model)
        raise FormatError(
            f"a {config['model_type']} model cannot be the encoder",
            hint=f"Supported: {listed(able)}.",
        )
    try:
        args: llama.Args = module.Args.from_config(config)
    except KeyError as error:
        raise FormatError(f"the encoder's config lacks {error}") from error
    except FormatError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the encoder's config is malformed: {error}") from error
    return args


def _expected(config: dict[str, Any]) -> Shapes:
    """The encoder's tensors, from the model that will run it; nothing is evaluated."""
    model = llama.Model(encoder_args(config))
    parameters: Any = tree_flatten(model.parameters())
    return {name: tensor.shape for name, tensor in parameters if name != "lm_head.weight"}


def _located(folder: Path, shapes: Shapes, ignored: Iterable[str]) -> dict[str, Path]:
    """The file of every tensor; FormatError unless all are there, once, of these shapes."""
    surplus = re.compile("|".join((r"lm_head\..*", *ignored)))
    files: dict[str, Path] = {}
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for file in sorted(folder.glob("*.safetensors")):
        for name, slot in safetensors_index(file).items():
            if surplus.fullmatch(name):
                continue
            if name in files:
                problems.append(f"{shown(name)} is in {files[name].name} and in {file.name}")
            if slot.dtype not in FLOATS.values():
                problems.append(f"{shown(name)} is {shown(slot.dtype)}, no float")
            files[name], found[name] = file, slot.shape
    _check_fit([*problems, *_misfits(shapes, found)], "encoder")
    return files


def _misfits(wanted: Shapes, found: Shapes) -> Iterator[str]:
    yield from (f"{name} is missing" for name in wanted if name not in found)
    for name, shape in found.items():
        if name not in wanted:
            yield f"{shown(name)} is unknown"
        elif 0 in shape:
            yield f"{name} is empty"
        elif tuple(shape) != wanted[name]:
            yield f"{name} is {tuple(shape)}, not {wanted[name]}"


def _check_fit(problems: list[str], whose: str) -> None:
    if problems:
        count = f"{len(problems)} tensor" + ("s do" if len(problems) > 1 else " does")
        raise FormatError(f"{count} not fit in the {whose}: {listed(problems)}")
