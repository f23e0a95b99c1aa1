"""The opcodes of a state dict's pickle, on a stack, and no others.

Python's `pickle` is not used: nothing here imports or calls what a file names. A global is a
`Global`, a name; to call one runs the function of ours that stands for it; and whatever else
a pickle can ask for is refused by the name that was found.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paw_mlx.errors import FormatError, listed
from paw_mlx.formats.untrusted import shown

MAX_OPCODES = 1_000_000
_MAX_BITS = 63
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}


@dataclass(frozen=True)
class Global:
    """The dotted name of what a pickle would import."""

    name: str


class Machine:
    """Runs one pickle.

    `calls` says what REDUCE makes of a global and its arguments, `tokens` are the globals
    that are only mentioned, and `persistent` makes something of a persistent id.
    """

    def __init__(
        self,
        calls: Mapping[Global, Callable[[tuple[object, ...]], object]],
        tokens: Collection[Global],
        persistent: Callable[[object], object],
    ) -> None:
        self._calls, self._tokens, self._persistent = calls, tokens, persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks that marks have set aside
        self._memo: dict[int, object] = {}

    def run(self, data: bytes) -> object:
        """Return the value that the pickle describes: plain values, and what `calls` return."""
        for name, argument in _read_opcodes(data):
            self._step(name, argument)
        if self._below or len(self._stack) != 1:
            raise FormatError(
                f"data.pkl ends with {len(self._stack)} values and {len(self._below)} open marks, "
                "not with one value"
            )
        return self._stack[0]

    def _step(self, name: str, argument: Any) -> None:
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINFLOAT":
                self._stack.append(argument)
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                self._stack.append(_check_bits(argument))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._stack.append(_CONSTANTS[name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                self._stack.append(_EMPTY[name]())
            case "MARK":
                self._below.append(self._stack)
                self._stack = []
            case "TUPLE":
                items = self._pop_to_mark()
                self._stack.append(tuple(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                self._append(self._pop(1))
            case "APPENDS":
                self._append(self._pop_to_mark())
            case "SETITEM":
                self._set(self._pop(2))
            case "SETITEMS":
                self._set(self._pop_to_mark())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "BINGET" | "LONG_BINGET":
                self._recall(argument)
            case "GLOBAL":
                self._find(*argument.split(" ", 1))
            case "STACK_GLOBAL":
                self._find(*self._pop(2))
            case "BINPERSID":
                self._stack.append(self._persistent(*self._pop(1)))
            case "REDUCE":
                self._call(*self._pop(2))
            case "BUILD":
                self._build(*self._pop(1))
            case _:
                asked = f" {shown(argument)}" if isinstance(argument, str) else ""
                raise FormatError(f"data.pkl has the opcode {name}{asked}, which no state dict has")

    def _top(self) -> Any:
        if not self._stack:
            raise FormatError("data.pkl takes a value that it never put on the stack")
        return self._stack[-1]

    def _pop(self, count: int) -> list[Any]:
        """Pop the last values, in the order they were pushed; never those below a mark."""
        if len(self._stack) < count:
            raise FormatError(
                f"data.pkl takes {count} values from the stack, and there are {len(self._stack)}"
            )
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        """Pop all values since the last mark."""
        if not self._below:
            raise FormatError("data.pkl looks for a mark that it never set")
        items, self._stack = self._stack, self._below.pop()
        return items

    def _append(self, items: list[Any]) -> None:
        if not isinstance(found := self._top(), list):
            raise FormatError(f"data.pkl appends to {kind(found)}, not to a list")
        found += items

    def _set(self, items: list[Any]) -> None:
        if not isinstance(found := self._top(), dict):
            raise FormatError(f"data.pkl sets an item of {kind(found)}, not of a dict")
        if len(items) % 2:
            raise FormatError(f"data.pkl fills a dict from {len(items)} values, not from pairs")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # others may not be hashable
                raise FormatError(f"data.pkl has {kind(key)} for a dict's key")
            found[key] = value

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise FormatError(f"data.pkl recalls value {index}, which it never stored")
        self._stack.append(self._memo[index])

    def _find(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise FormatError(f"data.pkl asks for {kind(name)} in {kind(module)}, not for a name")
        found = Global(f"{module}.{name}")
        if found not in self._calls and found not in self._tokens:
            allowed = [g.name for g in (*self._calls, *self._tokens)]
            raise FormatError(
                f"data.pkl asks for {shown(found.name)}, and may only ask for "
                + listed(allowed, 6),
                hint="Where it was made, save the weights alone: "
                'torch.save(checkpoint["state_dict"], path), or model.state_dict().',
            )
        self._stack.append(found)

    def _call(self, function: object, args: object) -> None:
        if not isinstance(function, Global) or function not in self._calls:
            raise FormatError(f"data.pkl calls {kind(function)}, which is no function it may call")
        if type(args) is not tuple:
            raise FormatError(f"data.pkl calls {function.name} with {kind(args)}, not with a tuple")
        self._stack.append(self._calls[function](args))

    def _build(self, state: object) -> None:
        """Ignore the state of a dict: `_metadata`, the versions of the modules."""
        if not isinstance(found := self._top(), dict) or not isinstance(state, dict):
            raise FormatError(f"data.pkl gives {kind(found)} the state {kind(state)}")


def kind(value: object) -> str:
    """Say what an untrusted value is; containers, which may hold themselves, by size."""
    if isinstance(value, Global):
        return f"the global {shown(value.name)}"
    if value is None or type(value) in (str, int, float, bool):
        return shown(value)
    if type(value) in (dict, list, tuple):
        return f"a {type(value).__name__} of {len(value)}"  # type: ignore[arg-type]
    return f"a {type(value).__name__}"


def _check_bits(number: int) -> int:
    if number.bit_length() > _MAX_BITS:
        raise FormatError(
            f"data.pkl has an integer of {number.bit_length()} bits (limit {_MAX_BITS})"
        )
    return number


def _read_opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield opcodes and their arguments; reading them allocates no more than they hold."""
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPCODES:
                raise FormatError(f"data.pkl has more than {MAX_OPCODES} opcodes")
            yield opcode.name, argument
    except (ValueError, Warning) as error:  # a name with an odd escape warns
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"data.pkl is no whole pickle: {shown(str(error))}") from error
