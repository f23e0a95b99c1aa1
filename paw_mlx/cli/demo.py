"""`paw-mlx demo`: English in, function out; and example programs on inputs they never saw."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..cases import read_cases
from ..errors import NotFound
from .command import Command
from .common import print_json, printable, table
from .demo_english import compile_english, cut, find_data
from .options import PATH, json_option, offline_option
from .voice import say

if TYPE_CHECKING:
    from ..interpreter import Interpreter
    from ..program import Program
    from .demo_english import Say

_BASE_ROWS = 32  # of each program, to see that the base alone is wrong
_ROWS_AT_ONCE = 8  # more are no faster on a CPU, and take up to 2 GB
_RAMBLE = 20  # tokens of what the bare base says; it would go on for hundreds


@dataclass(frozen=True)
class Shown:
    """An input, what base and program make of it, and what is right."""

    input: str
    base: str
    program: str
    right: str


@dataclass(frozen=True)
class Tried:
    """One example program: accuracy on its held-out rows, without it (the first) and with it."""

    name: str
    rows: int
    accuracy_base: float
    accuracy_program: float
    tok_s: float
    shown: list[Shown]


@click.command(cls=Command)
@click.argument("folder", type=PATH, required=False)
@click.option(
    "--inputs", "num", type=click.IntRange(0), default=3, show_default=True,
    help="Inputs to show per program.",
)  # fmt: skip
@offline_option
@json_option
def command(folder: Path | None, num: int, offline: bool, as_json: bool) -> None:
    """Compile English to functions, train one of them on, and run the trained examples.

    With the embedded compiler and SmolLM2-135M, fetched once (98 MB). Everything is judged by
    inputs that nothing was trained on. FOLDER runs programs of your own instead: one folder for
    each, with `program.paw` and `test.jsonl`.
    """
    from .. import Interpreter, hub

    folders = _find_examples(folder or find_data("examples"), required=folder is not None)
    path = hub.resolve_base("smollm2-135m", offline=offline, progress=say)
    say(f"base: SmolLM2-135M-Instruct, {path}")
    loud = click.echo if not as_json else lambda text: None
    english = None if folder else compile_english(path, num, loud)
    reports, peak_bytes = [], english.peak_bytes if english else 0
    if folders:
        with Interpreter.load(str(path), max_rows=_ROWS_AT_ONCE) as interpreter:
            reports = [_try(interpreter, place, num, loud) for place in folders]
            peak_bytes = max(peak_bytes, interpreter.peak_bytes)
    if english:
        loud(english.table())
    if reports:
        loud(_summary(reports))
    loud(f"peak memory {peak_bytes / 1e9:.2f} GB")
    if as_json:
        record = {"english": asdict(english)} if english else {}
        programs = [asdict(report) for report in reports]
        print_json(record | {"programs": programs, "peak_bytes": peak_bytes})


def _find_examples(root: Path, *, required: bool) -> list[Path]:
    """Return the folders that hold a program. NotFound if none does, and one should."""
    found = sorted(path.parent for path in root.glob("*/program.paw"))
    if required and not found:
        raise NotFound(f"no folder in {root} holds a program.paw")
    return found


def _try(interpreter: Interpreter, place: Path, num: int, say: Say) -> Tried:
    """Run the first rows one by one, both ways; judge all of them, of the base alone a few."""
    from .. import Function, Options, formats
    from ..evaluation import judge

    program = formats.load(place / "program.paw")
    cases = read_cases(place / "test.jsonl")
    bare = replace(program, adapter=None)
    # The base alone would go on for hundreds of tokens: one more than is right tells enough.
    encode = interpreter.base.tokenizer.encode
    enough = Options(max_tokens=1 + max(len(encode(case.output.strip())) for case in cases))
    shown, results = [], []
    for case in cases[:num]:
        base = interpreter.run(bare, case.input, Options(max_tokens=_RAMBLE))
        result = interpreter.run(program, case.input)
        results.append(result)
        shown.append(Shown(case.input, base.text, result.text, case.output))
    steps = sum(result.output_tokens - 1 for result in results)
    tried = Tried(
        name=place.name,
        rows=len(cases),
        accuracy_base=judge(Function(interpreter, bare), cases[:_BASE_ROWS], enough).accuracy,
        accuracy_program=judge(Function(interpreter, program), cases).accuracy,
        tok_s=steps / max(sum(result.decode_s for result in results), 1e-9),
        shown=shown,
    )
    _show(tried, program, say)
    return tried


def _show(report: Tried, program: Program, say: Say) -> None:
    assert program.adapter is not None
    size = program.adapter.nbytes / 1e6
    title = f"{report.name}, trained  (adapter of {size:.1f} MB)"
    say(f"\n{click.style(printable(title), bold=True)}\n{cut(program.spec)}\n")
    for row in report.shown:
        mark = "✓" if row.program == row.right else "✗"
        say(f"  input      {cut(row.input)}")
        say(f"  base says  {cut(row.base)}")
        say(f"  program    {cut(row.program)} {mark}")
        if row.program != row.right:
            say(f"  right      {cut(row.right)}")
        say("")


def _summary(reports: list[Tried]) -> str:
    head = ["held-out inputs", "rows", "base alone", "with program", "tok/s"]
    rows = [
        [
            report.name,
            str(report.rows),
            f"{report.accuracy_base:.1%}",
            f"{report.accuracy_program:.1%}",
            f"{report.tok_s:.0f}" if report.tok_s else "–",  # labels are not decoded
        ]
        for report in reports
    ]
    note = (
        "An output counts if it is exactly right. The base alone is given the same prompt, "
        f"on the first {_BASE_ROWS} rows."
    )
    return f"{table([head, *rows])}\n\n{note}"
