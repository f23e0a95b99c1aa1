r"""A row, and what a format has to know of it.

Where lines are None ("nothing at the moment"), so are rows. A row's own fields are copied as they
stand, not written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import FieldError, OptionError, PawError
from ..output import Labels, Output
from ..runner import Result

if TYPE_CHECKING:
    from .target import Seal

INPUT = "input"  # the name of an input that has none


@dataclass(frozen=True)
class Row:
    """An input and what stands around it; of a malformed row, `fields` hold all its text.

    `raw` is the row as its format writes it, without a line end: fields may be appended. `file` is
    where it stands, if that is one of several.
    """

    number: int  # from 1
    text: str
    error: PawError | None
    fields: Mapping[str, Any]
    raw: str
    file: str | None = None


@dataclass(frozen=True)
class Added:
    """The names of what a row gains: its output, or its error, and if wanted its number, its
    label's probability and its file. `decided`: whether it gets all that was decided by, too."""

    output: str
    error: str
    row: str | None
    probability: str | None = None
    decided: bool = False
    file: str | None = None

    @classmethod
    def to(
        cls,
        columns: Sequence[str],
        output: str,
        numbered: bool,
        probability: str | None = None,
        decided: bool = False,
        file: str | None = None,
    ) -> Added:
        """Name what is added to those columns; `error` is called so unless a column is."""
        error = free_name("error", columns, output)
        return cls(output, error, "row" if numbered else None, probability, decided, file)

    @property
    def columns(self) -> list[str]:
        """What a table gains, in this order."""
        names = self.output, self.probability, self.error, self.file, self.row
        return [name for name in names if name]

    def clash(self, columns: Iterable[str], where: str) -> OptionError | None:
        """Return what is wrong if the name of what is gained is taken."""
        for name, hint in (
            (self.output, "Name another with --output-field."),
            (self.probability, "Name another with --probability-field."),
            (self.file, "Name another with --file-field."),
            (self.row, "Leave out --unordered."),
        ):
            if name is not None and name in columns:
                return OptionError(f"{where} has a field {name!r} already", hint=hint)
        return None


class Reader(Protocol):
    """Iterate to get rows. `columns` are the fields of all rows, or of the first that is sound;
    `num_rows` counts what was read."""

    columns: list[str]
    num_rows: int

    def __iter__(self) -> Iterator[Row | None]: ...


class Writer(Protocol):
    """Rows as bytes, after a `head`. With `copies`, a row's own text is written as it stands.

    `seal` makes the output of all that was written; None where that is the output.
    """

    head: bytes
    copies: bool
    seal: Seal | None

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write a row with its output or its error."""
        ...

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find each row in what was written: its bytes, and its number (0: the head).

        It ends before a last row that was cut. ValueError or LookupError if it is damaged.
        """
        ...


def whole_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number lines from 1, up to one that has no end: it was cut."""
    return takewhile(lambda numbered: numbered[1].endswith(b"\n"), enumerate(lines, 1))


def find_field(name: str | None, columns: Sequence[str]) -> str | None:
    """Return the field that holds the input: the one named, `input`, `text`, or the only one."""
    if name is not None:
        return name if name in columns else None
    for known in (INPUT, "text"):
        if known in columns:
            return known
    return columns[0] if len(columns) == 1 else None


def choose_field(name: str | None, columns: Sequence[str]) -> str:
    """Return the field that holds the input, of all rows; FieldError if there is none such."""
    chosen = find_field(name, columns)
    if chosen is not None:
        return chosen
    have = f"the input has {', '.join(map(_show, columns))}"
    if name is not None:
        raise FieldError(f"there is no field {name!r}: {have}")
    raise FieldError(f"name the field that holds the input with --field: {have}")


def check_probable(output: Output) -> None:
    """Raise OptionError unless outputs of a type have probabilities: those of some labels do."""
    if not isinstance(output, Labels):
        raise OptionError(
            f"a probability is a label's, and the program's output is {output.kind}",
            hint="Say what it may be: --labels A,B,…",
        )


def _show(name: str) -> str:
    """Return a field's name as it is told: in quotes, if what it holds could not be seen."""
    return name if name == name.strip() and name.isprintable() and name else repr(name)


def free_name(name: str, columns: Iterable[str], output: str) -> str:
    """Return a name that no column has."""
    return f"{output}_{name}" if name in columns else name
