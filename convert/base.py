"""An interpreter base becomes MLX safetensors, in the folder that mlx-lm itself loads.

A Hugging Face folder brings its tokenizer and chat template along; a GGUF file has both in its
metadata. The new config records what was converted, so that a program compiled for the source
is at home on it. Memory stays at a few times the largest tensor.
"""

from __future__ import annotations

import json
import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paw_mlx.convert.sources import (
    MAX_TEXT_BYTES,
    TEXTS,
    TOKENIZER_CONFIG,
    read_texts,
    source_name,
)
from paw_mlx.errors import DiskError, FormatError, NotFound, OptionError, listed
from paw_mlx.files import find_files, is_litter, replacing
from paw_mlx.formats.fingerprint import RECORD, base_fingerprint, fingerprint
from paw_mlx.formats.gguf_reader import read_gguf
from paw_mlx.formats.untrusted import json_object, read_bytes
from paw_mlx.interpreter.base.packing import PACKED_BITS, check_group_size
from paw_mlx.interpreter.base.read import read_source
from paw_mlx.interpreter.base.source import Source
from paw_mlx.interpreter.base.tensors import shapes_of
from paw_mlx.interpreter.base.write import write_base
from paw_mlx.interpreter.models import make_model, read_args
from paw_mlx.progress import Progress, quiet

BITS = (*PACKED_BITS, 16, 32)
_SPECIAL = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}  # ours -> GGUF's


def convert_base(
    source: Path,
    out: Path,
    *,
    bits: int | None = None,
    group_size: int = 64,
    progress: Progress = quiet,
) -> Path:
    """Convert the base in `source`, a folder or GGUF file, into the folder `out`.

    `bits`: 4, 6 or 8 pack every matrix in groups of `group_size`; 16 makes all dense, in the
    type they are stored in; 32 makes it float32. None keeps each matrix as it is: the Q4_0,
    Q4_1 and Q8_0 of a GGUF are packed alike in MLX, other blocks are decoded. An earlier
    conversion in `out` is replaced. NotFound or FormatError for the source, OptionError,
    DiskError for the disk.
    """
    if bits not in (None, *BITS):
        raise OptionError(f"bits must be one of 4, 6, 8, 16 or 32, not {bits}")
    check_group_size(group_size)
    source, out = Path(source), Path(out)
    if not source.exists():
        raise NotFound(f"no such base: {source}")
    _check_out(source, out)
    base = read_source(source)
    _check_mlx_lm(base)
    _check_room(source, out, base, bits)
    made_from = {"source": source_name(source), "source_fingerprint": base_fingerprint(source)}
    record = made_from | base.record | {"bits": bits, "version": version("paw-mlx")}
    progress(f"converting {source.name} to {f'{bits} bits' if bits else 'MLX'}")
    texts = read_texts(source) if source.is_dir() else {}
    if TOKENIZER_CONFIG not in texts:
        texts[TOKENIZER_CONFIG] = _make_tokenizer_config(source, base)
    with replacing(out) as folder:
        folder.mkdir()
        model = make_model(base.config)
        write_base(base, model, folder, bits, group_size, {RECORD: record}, progress)
        config = folder / "config.json"
        made = _read_json(config)
        made[RECORD]["fingerprint"] = fingerprint(folder)
        config.write_text(json.dumps(made, indent=2), encoding="utf-8")
        for name, data in texts.items():
            (folder / name).write_bytes(data)
    return out


def _check_out(source: Path, out: Path) -> None:
    """Raise OptionError if something would be lost: no conversion, or the source itself."""
    here, there = source.resolve(), out.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise OptionError(f"{out} and its source {source} lie in one another")
    if not out.exists() and not out.is_symlink():
        return
    config = out / "config.json"
    if out.is_symlink() or not config.is_file() or RECORD not in _read_json(config):
        raise OptionError(
            f"{out} exists, and is no converted base", hint="Name a new folder, or remove that one."
        )
    written = {config.name, "model.safetensors", *TEXTS}
    names = sorted(path.name for path in out.iterdir())
    if others := [name for name in names if name not in written and not is_litter(name)]:
        raise OptionError(
            f"{out} also holds {listed(others)}, which converting would remove",
            hint="Name a new folder.",
        )


def _read_json(path: Path) -> dict[str, Any]:
    return json_object(read_bytes(path, MAX_TEXT_BYTES), path.name)


def _check_mlx_lm(base: Source) -> None:
    """Raise FormatError for a GPT-2 that this runtime can run and mlx-lm cannot."""
    if base.config["model_type"] != "gpt2":
        return
    args = read_args(base.config)
    if not args.tied or args.inner != 4 * args.hidden:
        raise FormatError(
            "mlx-lm runs GPT-2 with tied embeddings and 4 times its width inside, and this one "
            f"is {'tied' if args.tied else 'untied'} and has {args.inner / args.hidden:g} times",
            hint="Quantize it when it is loaded, with `--bits`, instead.",
        )


def _check_room(source: Path, out: Path, base: Source, bits: int | None) -> None:
    """Raise DiskError if the disk has less room than the weights alone will take."""
    files = [source] if source.is_file() else find_files(source, "*.safetensors")
    needed = sum(file.stat().st_size for file in files)
    if bits:
        width = base.dtype.size * 8 if bits == 16 else bits
        shapes = shapes_of(make_model(base.config)).values()
        needed = sum(math.prod(shape) for shape in shapes) * width // 8
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise DiskError(f"{out} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free")


def _make_tokenizer_config(source: Path, base: Source) -> bytes:
    """Make a tokenizer's config of what the base, or its GGUF file, says."""
    special = {"eos": base.eos_ids[0]} if base.eos_ids else {}
    metadata: dict[str, Any] = {}
    if source.is_file():
        metadata = dict(read_gguf(source).metadata)
        keys = {ours: f"tokenizer.ggml.{theirs}_token_id" for ours, theirs in _SPECIAL.items()}
        special |= {ours: metadata[key] for ours, key in keys.items() if key in metadata}
    tokens = {f"{name}_token": base.tokenizer.token(i) for name, i in special.items()}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": base.context,
        "clean_up_tokenization_spaces": False,
        **{name: token for name, token in tokens.items() if token is not None},
    }
    if isinstance(template := metadata.get("tokenizer.chat_template"), str):
        config["chat_template"] = template
    return json.dumps(config, indent=2, ensure_ascii=False).encode()
