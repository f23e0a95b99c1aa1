"""From a reference to a function, each base loaded once in a process."""

from __future__ import annotations

import threading
from os import PathLike
from weakref import WeakValueDictionary

from .. import formats, hub
from ..functions import Function
from ..profiles import base_name
from ..program import Program
from ..progress import Progress, quiet
from .interpreter import Interpreter

_Key = tuple[str, int | None, int]  # reference, bits, group size
_interpreters: WeakValueDictionary[_Key, Interpreter] = WeakValueDictionary()
_loading: dict[_Key, threading.Lock] = {}  # held while a base is loaded: others load meanwhile
_lock = threading.Lock()  # of the two dictionaries


def function(
    program: str | PathLike[str] | Program,
    *,
    interpreter: str | Interpreter | None = None,
    bits: int | None = None,
    group_size: int = 64,
    strict: bool = False,
    offline: bool = False,
    progress: Progress = quiet,
) -> Function:
    """Load a program as a function of text.

    `program` is a path, a name in the store, a hub reference, or a `Program`. The base is
    the one it was made for unless `interpreter` names another (or is one, already loaded);
    functions on the same base and bits share it, and it leaves memory with the last of them.
    A base with other weights than the program was compiled for gets a DriftWarning, and if
    `strict` AdapterMismatch.
    `progress` hears a line before a long step, such as a download.
    Raises NotFound, FormatError, AdapterMismatch, HubError, OfflineError or OptionError.
    """
    if not isinstance(program, Program):
        path = hub.resolve_program(str(program), offline=offline, progress=progress)
        program = formats.load(path)
    if not isinstance(interpreter, Interpreter):
        reference = interpreter or base_name(program.interpreter)
        interpreter = _load_once(reference, bits, group_size, offline, progress)
    interpreter.check(program, strict=strict)  # here, so that a warning points at our caller
    return Function(interpreter, program)


def _load_once(
    reference: str,
    bits: int | None,
    group_size: int,
    offline: bool,
    progress: Progress,
) -> Interpreter:
    """Return the interpreter of a base that is in memory, or load it."""
    key = reference, bits, group_size
    with _lock:
        loading = _loading.setdefault(key, threading.Lock())
    with loading:
        with _lock:
            interpreter = _interpreters.get(key)
        if interpreter is None or interpreter.closed:
            interpreter = Interpreter.load(
                reference, bits=bits, group_size=group_size, offline=offline, progress=progress
            )
            with _lock:
                _interpreters[key] = interpreter
        return interpreter
