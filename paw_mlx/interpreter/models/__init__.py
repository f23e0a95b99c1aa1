"""The bases: a file's name is its config's `model_type`, and that is the whole registry.

Each module holds `Args` (its sizes) and `Model`. How files name its tensors is data, and stands
with the family in `profiles.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import mlx.nn as nn

from ...errors import FormatError, listed
from ...formats.untrusted import number
from ...profiles import Profile
from . import gpt2, llama, qwen3

MODELS: dict[str, ModuleType] = {"gpt2": gpt2, "llama": llama, "qwen3": qwen3}


def make_model(config: Mapping[str, Any]) -> nn.Module:
    """Make the model of a config, its weights random and never evaluated.

    FormatError as from `read_args`.
    """
    args = read_args(config)  # whose checks the next line relies on
    return MODELS[config["model_type"]].Model(args)


def read_args(config: Mapping[str, Any], whose: str = "base") -> Any:
    """Return the model's `Args` of a config.

    FormatError for a model_type that is not in `MODELS`, sizes that are none, and whatever the
    model does not do.
    """
    Profile.from_config(config)  # checks the model_type and the sizes
    try:
        args = MODELS[config["model_type"]].Args.from_config(config)
        for name in ("eps", "theta"):
            if number(getattr(args, name, 1.0), name) <= 0:
                raise FormatError(f"the {whose}'s config gives {name} as {getattr(args, name)}")
        return args
    except FormatError:
        raise
    except KeyError as error:
        raise FormatError(f"the {whose}'s config lacks {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"the {whose}'s config is malformed: {error}") from error


def encoder_args(config: Mapping[str, Any]) -> llama.Args:
    """Return the sizes of a compiler's encoder, of Llama's kind; FormatError for another."""
    args = read_args(config, "encoder")
    able = [name for name, module in MODELS.items() if module.Model is llama.Model]
    if config["model_type"] not in able:
        raise FormatError(
            f"a {config['model_type']} model cannot be the encoder",
            hint=f"Supported: {listed(sorted(able))}.",
        )
    return args
