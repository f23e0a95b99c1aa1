"""What mlx-lm leaves in a folder, now and in its first years; `mlx` reads the adapters.

adapters.safetensors            what a training ended with
0000100_adapters.safetensors    what it had after 100 steps; read when it is named
adapters.npz                    of early 2024, without a config
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn

from ..errors import FormatError, listed
from ..files import find_files
from .untrusted import MAX_TEXT_BYTES, json_object, read_bytes

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
_PEFT_WEIGHTS = "adapter_model.safetensors"
NPZ = "adapters.npz"
NPZ_HINT = (
    "The first mlx-lm wrote adapters.npz, and no scale with it. Make safetensors of it, "
    "`mx.save_safetensors('adapters.safetensors', dict(mx.load('adapters.npz')))`, and put an "
    f"{CONFIG} beside it with num_layers and lora_parameters: rank and scale (20.0 by default)."
)
_CHECKPOINT = re.compile(r"\d+_" + re.escape(WEIGHTS))


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is called as mlx-lm's numbered checkpoints, its config beside it."""
    return bool(_CHECKPOINT.fullmatch(path.name)) and (path.parent / CONFIG).is_file()


def is_mlx(folder: Path) -> bool:
    """Return whether a folder with a config is mlx-lm's: by its weights, or else its config."""
    if (folder / WEIGHTS).exists():
        return True
    if (folder / _PEFT_WEIGHTS).exists():
        return False
    config = json_object(read_bytes(folder / CONFIG, MAX_TEXT_BYTES), CONFIG)
    return "peft_type" not in config and bool(
        {"lora_parameters", "fine_tune_type", "lora_layers"} & {*config}
        or find_files(folder, f"*_{WEIGHTS}")
        or (folder / NPZ).exists()
    )


def refuse_npz(folder: Path) -> None:
    """Raise FormatError for a folder of the first mlx-lm, which has no config."""
    if (folder / NPZ).exists():
        raise FormatError(f"{folder} holds {NPZ} and no {CONFIG}", hint=NPZ_HINT)


def refuse_missing(folder: Path) -> NoReturn:
    """Raise FormatError for a folder without adapters.safetensors, and say what to take."""
    if (folder / NPZ).exists():
        raise FormatError(f"{folder} holds {NPZ} and no {WEIGHTS}", hint=NPZ_HINT)
    found = [path.name for path in find_files(folder, f"*_{WEIGHTS}")]
    if not found:
        raise FormatError(
            f"{folder} is mlx-lm's, by its {CONFIG}, and has no {WEIGHTS}",
            hint="Fetch or copy it again: the weights are missing.",
        )
    raise FormatError(
        f"{folder} has no {WEIGHTS}, and {len(found)} checkpoints of a training: {listed(found)}",
        hint=f"Name one of them: {folder / found[-1]}.",
    )
