"""`paw-mlx compile`: an English spec becomes a program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import formats, store
from ..errors import CompileError, PawError
from ..lint import lint
from .candidates import Trial, candidate_options
from .command import Command
from .common import print_json, read_input, table, written
from .editor import edit_pseudo_program, write_text
from .lint import tell_findings
from .options import (
    PATH,
    adapter_option,
    compiler_options,
    declare_options,
    json_option,
    offline_option,
)
from .specs import (
    Wish,
    check_writable,
    choose_dtype,
    choose_output,
    find_places,
    read_text,
    read_wishes,
)
from .teach import Training, train_options
from .voice import say, status

if TYPE_CHECKING:
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler
    from ..output import Output


@click.command(cls=Command)
@click.argument("spec", required=False)
@click.option(
    "-f", "--file", "spec_files", multiple=True, metavar="SPEC.txt",
    type=PATH,
    help="Read the spec from a file. Several, or a .jsonl of specs, make several programs.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT.paw", help="The program to write; for several, a folder.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Keep it in the store, under this name.")
@declare_options
@compiler_options
@adapter_option
@click.option(
    "--instruction", metavar="FILE", type=PATH,
    help="What to tell the pseudo-compiler instead.",
)  # fmt: skip
@click.option(
    "--pseudo-program", metavar="FILE", type=PATH,
    help="Take this pseudo-program; no pseudo-compiler is loaded.",
)  # fmt: skip
@click.option(
    "--save-pseudo-program", "save", metavar="FILE", type=PATH,
    help="Write the pseudo-program there, also one that cannot be used.",
)  # fmt: skip
@click.option("--edit", is_flag=True, help="Correct the pseudo-program in $EDITOR.")
@click.option(
    "--keep-loaded", is_flag=True, help="Of many specs: keep the pseudo-compiler in memory.",
)  # fmt: skip
@candidate_options
@train_options
@offline_option
@json_option
def command(
    spec: str | None,
    spec_files: tuple[Path, ...],
    output: str | None,
    name: str | None,
    compiler: str | None,
    adapter: str | None,
    pseudo_program: Path | None,
    save: Path | None,
    edit: bool,
    declared: Output | None,
    as_json: bool,
    trial: Trial | None,
    training: Training | None,
    **options: Any,
) -> None:
    """Compile SPEC, an English description of a function, to a program.

    SPEC is text, or `-` for standard input, which is also read when SPEC is left out of a
    pipe. What each phase cost goes to stderr, the program's path to stdout. A .jsonl holds
    rows {"spec": …}, with "name" and "pseudo_program" if wanted. Labels that the spec names
    ("Return ONLY one of: A, B") are all that the program says, unless another type is given.
    """
    wishes = _wishes(spec, spec_files, pseudo_program)
    several = len(wishes) > 1 or any(file.suffix == ".jsonl" for file in spec_files)
    if several and (name or pseudo_program or save or edit or training):
        raise click.UsageError(
            "--name, --pseudo-program, --save-pseudo-program, --edit and --train are for a single "
            "spec"
        )
    if trial and (several or training):
        raise click.UsageError(
            "--candidates, --cases and --gate are for one spec, --candidates not for --train"
        )
    if trial and trial.num > 1 and (pseudo_program or edit):
        raise click.UsageError("--candidates writes pseudo-programs: give none, and no --edit")
    if not (output or name or several):
        raise click.UsageError("give -o OUT.paw or --name NAME")
    if name:
        store.check_name(name)
    places = find_places(output, wishes, several)
    compilations = [_begin(wish, declared, several, as_json) for wish in wishes]
    if trial:
        trial.read(name, compilations[0])
    if not as_json:
        tell_findings([wish.spec for wish in wishes])
    with _load(compiler, **options) as loaded:
        dtype = choose_dtype(adapter, loaded.checkpoint.rank)
        for path in filter(None, (*places.values(), save)):
            check_writable(path)
        if training:
            training.begin(loaded, compilations[0])
        if edit:
            edit_pseudo_program(
                loaded, compilations[0], save or Path(f"{wishes[0].name}.pseudo-program.txt")
            )
        made = loaded.compile_all(compilations)
        if trial:
            made = iter([trial.compile(loaded, compilations[0], dtype, as_json)])
        finish = _Finish(loaded, dtype, save, several, as_json, trial, training)
        for wish, done in zip(wishes, made, strict=True):
            finish(wish, done, places[wish.name], name or (None if output else wish.name))
    if finish.num_failed:
        raise CompileError(f"{finish.num_failed} of {len(wishes)} specs were not compiled")


@dataclass
class _Finish:
    """What becomes of a compilation once it is done: an error, or a program where it belongs."""

    compiler: Compiler
    dtype: str
    save: Path | None
    several: bool
    as_json: bool
    trial: Trial | None
    training: Training | None
    num_failed: int = 0

    def __call__(self, wish: Wish, done: Compilation, place: Path | None, name: str | None) -> None:
        text = getattr(done.error, "answer", done.pseudo_program)
        if self.save and text:
            write_text(self.save, text)
        if done.error and not self.several:
            raise done.error
        if done.error:
            self.num_failed += 1
            _report_failure(done.error, wish.name, self.as_json)
            return
        if self.training:
            self.training.train(self.compiler, done, self.dtype, self.as_json)
        where = _keep(self.compiler, done, place, name, self.dtype)
        where |= {"candidates": self.trial.record} if self.trial else {}
        if self.training:
            self.training.finish()
            where |= {"training": self.training.record}
        with written(Path(where["path"])):
            _report(done, where, self.as_json)
        done.program = None  # an adapter is large, and there may be hundreds


def _wishes(spec: str | None, spec_files: tuple[Path, ...], pseudo: Path | None) -> list[Wish]:
    if spec_files:
        if spec is not None:
            raise click.UsageError("give SPEC or --file, not both")
        wishes = read_wishes(spec_files)
    else:
        wishes = [Wish(read_input(spec, None), "program")]
    if pseudo and len(wishes) == 1:
        return [Wish(wishes[0].spec, wishes[0].name, read_text(pseudo))]
    return wishes


def _begin(wish: Wish, declared: Output | None, several: bool, silent: bool) -> Compilation:
    from ..compiler.compilation import Compilation

    of = wish.name if several else "the spec"
    output = choose_output(declared, wish.spec, of=of, silent=silent)
    return Compilation(wish.spec, wish.pseudo_program, output=output)


def _load(reference: str | None, **options: Any) -> Compiler:
    from ..compiler.installed import caution
    from ..compiler.pipeline import Compiler

    if file := options["instruction"]:
        options["instruction"] = read_text(file)
    chosen = {key: value for key, value in options.items() if value is not None}
    loaded = Compiler.load(reference, progress=status, **chosen)
    if note := caution(loaded.checkpoint):
        say(note)
    return loaded


def _keep(
    compiler: Compiler, compilation: Compilation, path: Path | None, name: str | None, dtype: str
) -> dict[str, Any]:
    """Save a program to its file, under its name in the store, or both; return where it is."""
    program, profile = compilation.program, compiler.target.profile
    assert program is not None
    if path:
        formats.save(program, path, dtype, profile=profile)
    stored: dict[str, Any] = {}
    if name:
        # A copy of the file, where there is one: A and B are quantized once.
        version = store.add(path or program, name, dtype=dtype, profile=profile)
        path = path or store.find(f"{name}@v{version}")
        stored = {"name": name, "version": version}
    assert path is not None
    record = {"program_id": program.id, "path": str(path), "bytes": path.stat().st_size}
    return record | {"output": program.output.record()} | stored


def _report_failure(error: PawError, name: str, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "error": error.record()})
        return
    for line in (f"{name}: {error}", *(f"  {hint}" for hint in error.hints)):
        say(line)


def _report(compilation: Compilation, record: dict[str, Any], as_json: bool) -> None:
    """Say what each phase cost, and print where the program is."""
    costs = compilation.costs
    seconds = sum(cost.seconds for cost in costs.values())
    peak = max(cost.peak_bytes for cost in costs.values())
    if as_json:
        record |= {"spec": compilation.spec, "pseudo_program": compilation.pseudo_program}
        record |= {"lint": [finding.record() for finding in lint(compilation.spec)]}
        record |= {"seconds": seconds, "peak_bytes": peak}
        record |= {"phases": {phase: asdict(cost) for phase, cost in costs.items()}}
        print_json(record)
        return
    rows = [
        [phase.replace("_", "-"), f"{cost.seconds:.1f} s", f"{cost.peak_bytes / 1e9:.2f} GB"]
        for phase, cost in costs.items()
        if cost.peak_bytes  # not the pseudo-program's, if it was given
    ]
    say(table([["phase", "seconds", "peak"], *rows]))
    if "name" in record:
        say(f"stored {record['name']}@v{record['version']}")
    click.echo(record["path"])
