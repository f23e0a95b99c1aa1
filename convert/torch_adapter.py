"""Adapters as torch saves them: what `torch.save` wrote, read and not executed.

    <folder>/adapter_model.bin              PEFT without safetensors; adapter_config.json beside it
    <folder>/pytorch_model.bin.index.json   a checkpoint in shards
    anything.pt .bin .pth .ckpt             a state dict, or a checkpoint that nests one

A checkpoint says no alpha, and none is guessed. Besides A and B it may hold the base, the
optimizer and what not: all of it stays unread. What is more than a plain LoRA is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.convert import torch_zip
from paw_mlx.convert.torch_pickle import StateDict, open_state_dict
from paw_mlx.errors import AdapterMismatch, FormatError, OptionError, listed
from paw_mlx.files import find_files
from paw_mlx.formats import peft
from paw_mlx.formats.lora_names import is_lora, locate
from paw_mlx.formats.peft_refusals import check_tensors
from paw_mlx.formats.sites import Found
from paw_mlx.formats.summary import Summary
from paw_mlx.formats.tensors import FLOATS, Raw
from paw_mlx.formats.untrusted import MAX_TEXT_BYTES, json_object, read_bytes, shown
from paw_mlx.profiles import Profile, find_profile

NESTED = ("state_dict", "model_state_dict", "model", "module")
PEFT_BIN, INDEX = "adapter_model.bin", ".bin.index.json"
_MAX_SHARDS = 128  # all of them are open at once


def is_torch(path: Path) -> bool:
    """Return whether this module reads what is there: a file of torch.save, or a folder of it."""
    path = Path(path)
    if not path.is_dir():
        return path.name.endswith(INDEX) or torch_zip.is_torch(path)
    if (path / peft.WEIGHTS).exists():  # which PEFT prefers, too
        return False
    return (path / PEFT_BIN).is_file() or bool(_find_indexes(path))


def read(
    path: Path,
    profile: Profile | None,
    *,
    rank: int | None = None,
    alpha: float | None = None,
    rslora: bool = False,
) -> Found:
    """Read the adapter in a PEFT folder with a .bin, a state dict or a training checkpoint.

    `alpha` is needed where no adapter_config.json lies beside the file, and `rank`, if given, is
    checked. With `rslora` the scale is alpha / sqrt(rank), as such a config says itself.
    NotFound, FormatError; AdapterMismatch if it does not fit `profile` or the base it
    names; OptionError for a rank or alpha that is absent, impossible or contradicted.
    """
    path = Path(path)
    if alpha is not None and not (math.isfinite(alpha) and alpha > 0):
        raise OptionError(f"--alpha is {alpha:g}, and an alpha is a positive number")
    folder = path if path.is_dir() else path.parent
    config = peft.read_config(folder) if (folder / peft.CONFIG).is_file() else None
    with ExitStack() as stack:
        tensors = _open(path, stack)
        if config is None:
            found = Found(_make_adapter(path, tensors.of_lora(), profile, alpha, rslora), "")
        else:
            # Only a checkpoint may hold the base besides; in a PEFT file it would be a part of it.
            is_peft = _find_file(path).name == PEFT_BIN
            found = peft.adapter_of(config, tensors if is_peft else tensors.of_lora(), profile)
    if config is not None and rslora and not config.get("use_rslora"):
        raise OptionError(
            f"the {peft.CONFIG} beside {path.name} does not say use_rslora",
            hint="Leave --rslora out: the config says how alpha scales.",
        )
    _check_options(found.adapter, rank, None if rslora else alpha)
    found.adapter.check_finite()
    if base := profile or find_profile(found.interpreter):
        base.check(found.adapter)
    return found


def summarize(path: Path) -> Summary:
    """Summarize the adapter in a file or folder of torch's; alphas and scales are none where no
    config says them."""
    folder = path if path.is_dir() else path.parent
    if (folder / peft.CONFIG).is_file():
        found = read(path, None)
        return Summary.of(path, "torch", found.adapter, found.interpreter)
    found = read(path, None, alpha=1.0)
    summary = Summary.of(path, "torch", found.adapter, found.interpreter)
    return replace(summary, alphas=(), scales=())


class _Tensors(Mapping[str, Raw | Matrix]):
    """The tensors of open files by name; each is read when it is asked for."""

    def __init__(self, states: Mapping[str, StateDict]) -> None:
        self._states = states

    def __getitem__(self, name: str) -> Raw | Matrix:
        state = self._states[name]
        info = state.tensors[name]
        if len(info.shape) != 2 or 0 in info.shape or info.dtype not in FLOATS:
            return Raw(FLOATS.get(info.dtype, info.dtype), info.shape, b"")
        array = state.read(name)
        return Matrix(info.dtype, (info.shape[0], info.shape[1]), array.view(np.uint8))

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def of_lora(self) -> _Tensors:
        """Return only the A and B of whatever modules."""
        return _Tensors({name: state for name, state in self._states.items() if is_lora(name)})


def _open(path: Path, stack: ExitStack) -> _Tensors:
    """Open the tensors that are at a path; their files are open until `stack` ends."""
    path = _find_file(path)
    if not path.name.endswith(INDEX):
        state = stack.enter_context(open_state_dict(path, nested=NESTED))
        _check_names(path, state.tensors)
        return _Tensors(dict.fromkeys(state.tensors, state))
    weight_map = _read_weight_map(path)
    _check_names(path, weight_map)
    # Shards of nothing but the base stay closed.
    files = sorted({file for name, file in weight_map.items() if is_lora(name)})
    if len(files) > _MAX_SHARDS:
        raise FormatError(f"{path} names {len(files)} shards with A and B (limit {_MAX_SHARDS})")
    shards = {
        file: stack.enter_context(open_state_dict(path.parent / file, nested=NESTED))
        for file in files
    }
    states = {name: shards[file] for name, file in weight_map.items() if file in shards}
    if absent := [name for name, state in states.items() if name not in state.tensors]:
        raise FormatError(
            f"{len(absent)} tensors are not in the shards that {path} names for them: "
            + listed([shown(name) for name in absent]),
            hint="The shards are of several checkpoints: fetch or export them again.",
        )
    return _Tensors(states)


def _check_names(path: Path, names: Collection[str]) -> None:
    """Raise FormatError if there is no LoRA among these, or more than a plain one."""
    check_tensors(names)
    if not any(is_lora(name) for name in names):
        raise FormatError(
            f"{path} holds {len(names)} tensors and no lora_A and lora_B among them: "
            + listed([shown(name) for name in sorted(names)]),
            hint="These are a base's own weights: a base is converted with --base.",
        )


def _find_file(path: Path) -> Path:
    """Find the file to open: the path itself, or what its folder holds."""
    if not path.is_dir():
        return path
    if (path / PEFT_BIN).is_file():
        return path / PEFT_BIN
    indexes = _find_indexes(path)
    if len(indexes) != 1:
        raise FormatError(
            f"{path} holds {len(indexes)} indexes of shards: "
            + (listed([index.name for index in indexes]) or f"none is named *{INDEX}"),
            hint="Name one of the files in it.",
        )
    return indexes[0]


def _find_indexes(folder: Path) -> list[Path]:
    return find_files(folder, f"*{INDEX}")


def _read_weight_map(index: Path) -> dict[str, str]:
    """Read which shard has which tensor; FormatError unless all are files beside the index."""
    found = json_object(read_bytes(index, MAX_TEXT_BYTES), index.name).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise FormatError(f"{index} has no weight_map of tensors to shards")
    strange = [file for file in found.values() if not _is_plain(file)]
    if strange:
        raise FormatError(f"{index} names {shown(strange[0])}, which is no file beside it")
    return found


def _is_plain(file: object) -> bool:
    if not isinstance(file, str) or not file.isprintable():
        return False
    return Path(file).name == file and file not in ("", "..")


def _make_adapter(
    path: Path, tensors: _Tensors, profile: Profile | None, alpha: float | None, rslora: bool
) -> Adapter:
    """Make the adapter of tensors without a config."""
    pairs, _ = locate(tensors, profile)
    if alpha is None:
        raise OptionError(
            f"{path} does not say its alpha, and the scale is alpha / rank: give --alpha",
            hint="With --rslora where it is alpha / sqrt(rank). Or put the "
            f"{peft.CONFIG} that it was trained with beside it.",
        )
    sites = {}
    for site, pair in pairs.items():
        A, B = peft.matrices(tensors, pair)
        # alpha / rank is the scale everywhere else, so rsLoRA's square root moves into alpha.
        sites[site] = Lora(A, B, alpha * math.sqrt(A.shape[0]) if rslora else alpha)
    turned = [site for site, lora in sites.items() if lora.rank > max(lora.shape)]
    if turned:
        raise AdapterMismatch(
            f"{len(turned)} sites have a rank greater than their module: "
            + listed([f"{site}: A {sites[site].A.shape}" for site in turned]),
            hint="A is (rank, d_in) and B (d_out, rank): transpose them.",
        )
    return Adapter(sites)


def _check_options(adapter: Adapter, rank: int | None, alpha: float | None) -> None:
    """Raise OptionError if the tensors or the config say otherwise."""
    others = [f"{s}: {lora.rank}" for s, lora in sorted(adapter.sites.items()) if lora.rank != rank]
    if rank is not None and others:
        raise OptionError(
            f"--rank is {rank}, and A and B have another at {len(others)} sites: {listed(others)}",
            hint="Leave --rank out: it follows from the tensors.",
        )
    others = [f"{s}: {o.alpha:g}" for s, o in sorted(adapter.sites.items()) if o.alpha != alpha]
    if alpha is not None and others:
        raise OptionError(
            f"--alpha is {alpha:g}, and {peft.CONFIG} gives another to {len(others)} sites: "
            + listed(others),
            hint="Leave --alpha out: the config says it.",
        )
