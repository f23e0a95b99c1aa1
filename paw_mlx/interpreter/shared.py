"""From a reference to a function, each base loaded once in a process."""

from __future__ import annotations

import re
import threading
from os import PathLike
from weakref import WeakValueDictionary

from .. import formats, hub
from ..annotations import output_of, retype
from ..functions import Function
from ..output import Regex
from ..profiles import base_name
from ..program import Program
from ..progress import Progress, quiet
from .engine.grammar import check_output
from .interpreter import Interpreter

_Key = tuple[str, int | None, int]  # reference, bits, group size
_interpreters: WeakValueDictionary[_Key, Interpreter] = WeakValueDictionary()
_loading: dict[_Key, threading.Lock] = {}  # held while a base is loaded: others load meanwhile
_lock = threading.Lock()  # of the two dictionaries


def function(
    program: str | PathLike[str] | Program,
    *,
    labels: object = None,
    schema: object = None,
    regex: str | re.Pattern[str] | Regex | None = None,
    threshold: float | None = None,
    otherwise: str | None = None,
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

    Outputs are of the program's own type unless one of these says another: `labels`, the texts
    in order, or a Literal or an Enum of them; `schema`, a JSON schema, or a dataclass, a
    TypedDict, a model of pydantic's, `list[…]` and the like; `regex`, which matches as a whole.
    A label whose probability is below `threshold` is not said, but `otherwise` (None).

    Raises NotFound, FormatError, AdapterMismatch, HubError, OfflineError or OptionError.
    """
    output = output_of(labels, schema, regex)
    if not isinstance(program, Program):
        path = hub.resolve_program(str(program), offline=offline, progress=progress)
        program = formats.load(path)
    program = retype(program, output, threshold, otherwise)
    check_output(program.output)
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
