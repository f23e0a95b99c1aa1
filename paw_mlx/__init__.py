"""paw-mlx: run Program-as-Weights programs on Apple Silicon, through MLX.

    import paw_mlx as paw
    fn = paw.function("email-triage.paw")
    fn("Urgent: the server is down!")        # 'immediate'

Names are imported when first used: `import paw_mlx` alone touches neither MLX nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import Adapter, Site
    from .compiler.pipeline import Compiler, compile, compile_and_load
    from .errors import (
        AdapterMismatch,
        CallTimeout,
        ClosedError,
        CompileError,
        DriftWarning,
        FormatError,
        HubError,
        InputTooLong,
        NotFound,
        OfflineError,
        OptionError,
        PawError,
        PseudoProgramError,
        UnknownLayout,
    )
    from .formats import load, save
    from .interpreter import Function, Interpreter, Options, Result
    from .interpreter.sharing import function
    from .profiles import Profile
    from .program import Program, Template

_HOMES = {
    "adapter": ("Adapter", "Site"),
    "errors": (
        "AdapterMismatch",
        "CallTimeout",
        "ClosedError",
        "CompileError",
        "DriftWarning",
        "FormatError",
        "HubError",
        "InputTooLong",
        "NotFound",
        "OfflineError",
        "OptionError",
        "PawError",
        "PseudoProgramError",
        "UnknownLayout",
    ),
    "compiler.pipeline": ("Compiler", "compile", "compile_and_load"),
    "formats": ("load", "save"),
    "interpreter": ("Function", "Interpreter", "Options", "Result"),
    "interpreter.sharing": ("function",),
    "profiles": ("Profile",),
    "program": ("Program", "Template"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Adapter",
    "AdapterMismatch",
    "CallTimeout",
    "ClosedError",
    "CompileError",
    "Compiler",
    "DriftWarning",
    "FormatError",
    "Function",
    "HubError",
    "InputTooLong",
    "Interpreter",
    "NotFound",
    "OfflineError",
    "OptionError",
    "Options",
    "PawError",
    "Profile",
    "Program",
    "PseudoProgramError",
    "Result",
    "Site",
    "Template",
    "UnknownLayout",
    "compile",
    "compile_and_load",
    "convert",
    "function",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name == "convert":  # a package that can be called
        return importlib.import_module(".convert", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__doc__"]
