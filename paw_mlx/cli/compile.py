"""`paw-mlx compile`: an English spec becomes a program."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import files, formats, store
from ..errors import CompileError, OptionError, PawError, PseudoProgramError, listed
from . import Command, error_record, json_option
from .common import compiler_options, read_input, say, status, table
from .specs import Wish, check_blocks, check_writable, read_text, read_wishes

if TYPE_CHECKING:
    from ..compiler.pipeline import Compiler, Job


@click.command(cls=Command)
@click.argument("spec", required=False)
@click.option(
    "-f", "--file", "spec_files", multiple=True, metavar="SPEC.txt",
    type=click.Path(path_type=Path),
    help="Read the spec from a file. Several, or a .jsonl of specs, make several programs.",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="OUT.paw", help="The program to write; for several, a folder.",
)  # fmt: skip
@click.option("--name", metavar="NAME", help="Keep it in the store, under this name.")
@compiler_options
@click.option(
    "--adapter", type=click.Choice(["q4_0", "f16", "f32"]), default="q4_0", show_default=True,
    help="How A and B are stored.",
)  # fmt: skip
@click.option(
    "--instruction", metavar="FILE", type=click.Path(path_type=Path),
    help="What to tell the pseudo-compiler instead.",
)  # fmt: skip
@click.option(
    "--pseudo-program", metavar="FILE", type=click.Path(path_type=Path),
    help="Take this pseudo-program; no pseudo-compiler is loaded.",
)  # fmt: skip
@click.option(
    "--save-pseudo-program", "save", metavar="FILE", type=click.Path(path_type=Path),
    help="Write the pseudo-program there, also one that cannot be used.",
)  # fmt: skip
@click.option("--edit", is_flag=True, help="Correct the pseudo-program in $EDITOR.")
@click.option(
    "--keep-loaded", is_flag=True, help="Of many specs: keep the pseudo-compiler in memory.",
)  # fmt: skip
@click.option("--offline", is_flag=True, help="Never touch the network.")
@json_option
def command(
    spec: str | None,
    spec_files: tuple[Path, ...],
    output: str | None,
    name: str | None,
    compiler: str | None,
    adapter: str,
    pseudo_program: Path | None,
    save: Path | None,
    edit: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile SPEC, an English description of a function, to a program.

    SPEC is text, or `-` for standard input, which is also read when SPEC is left out of a
    pipe. What each phase cost goes to stderr, the program's path to stdout. A .jsonl holds
    rows {"spec": …}, with "name" and "pseudo_program" if wanted.
    """
    wishes = _wishes(spec, spec_files, pseudo_program)
    several = len(wishes) > 1 or any(file.suffix == ".jsonl" for file in spec_files)
    if several and (name or pseudo_program or save or edit):
        raise click.UsageError(
            "--name, --pseudo-program, --save-pseudo-program and --edit are for a single spec"
        )
    if not (output or name or several):
        raise click.UsageError("give -o OUT.paw or --name NAME")
    if name:
        store.check_name(name)
    places = _places(output, wishes, several)
    with _load(compiler, **options) as loaded:
        check_blocks(adapter, loaded.meta.rank)
        for path in filter(None, (*places.values(), save)):
            check_writable(path)
        jobs = [_job(loaded, wish, edit, save) for wish in wishes]
        num_failed = 0
        for wish, job in zip(wishes, loaded.compile_all(jobs), strict=True):
            _save_pseudo_program(job, save)
            if job.error and not several:
                raise job.error
            if job.error:
                num_failed += 1
                _report_failure(job.error, wish.name, as_json)
                continue
            stored_as = name or (wish.name if not output else None)
            _report(_written(loaded, job, places[wish.name], stored_as, adapter), job, as_json)
            job.program = None  # an adapter is large, and there may be hundreds
    if num_failed:
        raise CompileError(f"{num_failed} of {len(wishes)} specs were not compiled")


def _wishes(spec: str | None, spec_files: tuple[Path, ...], pseudo: Path | None) -> list[Wish]:
    if spec_files:
        if spec is not None:
            raise click.UsageError("give SPEC or --file, not both")
        wishes = read_wishes(spec_files)
    else:
        wishes = [Wish(read_input(spec, None).strip(), "program")]
    if not all(wish.spec for wish in wishes):
        raise OptionError("the spec is empty")
    if pseudo and len(wishes) == 1:
        return [Wish(wishes[0].spec, wishes[0].name, read_text(pseudo))]
    return wishes


def _places(output: str | None, wishes: list[Wish], several: bool) -> dict[str, Path | None]:
    """Where each program is written; None if it goes to the store alone."""
    if output is None:
        bad = [wish.name for wish in wishes if several and not store.is_name(wish.name)]
        if bad:
            raise OptionError(
                f"{len(bad)} names cannot name a program in the store: {listed(bad)}",
                hint="Give these rows other names, or write to a folder with -o.",
            )
        return dict.fromkeys((wish.name for wish in wishes), None)
    path = Path(output)
    if not (several or path.is_dir() or output.endswith("/")):
        return {wish.name: path for wish in wishes}
    if path.suffix == ".paw" or path.is_file():
        raise OptionError(f"several programs go to a folder, and {output} is a file's name")
    places = {wish.name: path / f"{wish.name.replace('/', '-')}.paw" for wish in wishes}
    # Not all disks tell A.paw from a.paw.
    same = [
        name
        for name, number in Counter(str(p).lower() for p in places.values()).items()
        if number > 1
    ]
    if same:
        raise OptionError(f"{len(same)} files would be written twice: {listed(same)}")
    return dict(places)


def _load(reference: str | None, **options: Any) -> Compiler:
    from ..compiler.pipeline import Compiler

    instruction, bits = options.pop("instruction"), options.pop("bits")
    if instruction:
        options["instruction"] = read_text(instruction)
    chosen = {key: value for key, value in options.items() if value is not None}
    return Compiler.load(reference, bits=bits and int(bits), progress=status, **chosen)


def _job(compiler: Compiler, wish: Wish, edit: bool, save: Path | None) -> Job:
    """The spec on its way, its pseudo-program corrected by its author with --edit."""
    from ..compiler.pipeline import Job

    job = Job(wish.spec, wish.pseudo_program)
    if not edit:
        return job
    text = wish.pseudo_program
    if text is None:
        try:
            with job.costs["pseudo_program"].measured():
                text = compiler.pseudo_program(job.spec)
        except PseudoProgramError as error:
            say(str(error))
            text = error.answer
        job.origin = "edited"
    text = _edited(text)
    try:
        job.pseudo_program = compiler.check(text)
    except CompileError as error:
        kept = save or Path(f"{wish.name}.pseudo-program.txt")
        _write_text(kept, text)
        error.add_note(f"What you wrote is in {kept}: pass it with --pseudo-program.")
        raise
    return job


def _edited(text: str) -> str:
    """The text as its author leaves it; CompileError if it is emptied."""
    try:
        edited = click.edit(text, extension=".txt")
    except click.ClickException as error:
        raise CompileError(
            f"no editor could be run: {error.message}", hint="Set $EDITOR, or use --pseudo-program."
        ) from error
    if edited is not None and not edited.strip():
        raise CompileError("the pseudo-program was emptied, so nothing is compiled")
    return text if edited is None else edited


def _save_pseudo_program(job: Job, path: Path | None) -> None:
    text = getattr(job.error, "answer", job.pseudo_program)
    if path and text:
        _write_text(path, text)


def _write_text(path: Path, text: str) -> None:
    with files.replacing(path) as temporary:
        temporary.write_text(text.strip() + "\n", encoding="utf-8")


def _written(
    compiler: Compiler, job: Job, path: Path | None, name: str | None, dtype: str
) -> dict[str, Any]:
    """Save a program to its file, its name in the store, or both; where it is."""
    assert job.program is not None
    record: dict[str, Any] = {"program_id": job.program.id}
    with tempfile.TemporaryDirectory() as folder:
        file = path or Path(folder) / "program.paw"
        formats.save(job.program, file, dtype, profile=compiler.target.profile)
        record |= {"path": str(path), "bytes": file.stat().st_size}
        if name:
            version = store.add(file, name)
            stored = store.find(f"{name}@v{version}")
            record |= {"name": name, "version": version, "path": str(path or stored)}
    return record


def _report_failure(error: PawError, name: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"name": name} | error_record(error)))
        return
    for line in (f"{name}: {error}", *(f"  {hint}" for hint in error.hints)):
        say(line)


def _report(record: dict[str, Any], job: Job, as_json: bool) -> None:
    seconds = sum(cost.seconds for cost in job.costs.values())
    peak = max(cost.peak_bytes for cost in job.costs.values())
    if as_json:
        record |= {"spec": job.spec, "pseudo_program": job.pseudo_program}
        record |= {"seconds": seconds, "peak_bytes": peak}
        phases = {phase: asdict(cost) for phase, cost in job.costs.items()}
        click.echo(json.dumps(record | {"phases": phases}, ensure_ascii=False))
        return
    rows = [
        [phase.replace("_", "-"), f"{cost.seconds:.1f} s", f"{cost.peak_bytes / 1e9:.2f} GB"]
        for phase, cost in job.costs.items()
        if cost.peak_bytes  # not the pseudo-program's, if it was given
    ]
    say(table([["phase", "seconds", "peak"], *rows]))
    if "name" in record:
        say(f"stored {record['name']}@v{record['version']}")
    click.echo(record["path"])
