"""`paw-mlx bench compile`: what compiling costs, phase by phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import OptionError, PawError
from .bench import measured, output_option
from .command import Command
from .common import read_input
from .options import PATH, compiler_options, json_option, offline_option
from .specs import Wish, read_text, read_wishes
from .voice import say, status


@click.command(cls=Command)
@click.argument("specs", required=False, metavar="[SPECS]")
@compiler_options
@click.option(
    "--pseudo-program", metavar="FILE", type=PATH,
    help="Take this one for every spec; no pseudo-compiler is loaded.",
)  # fmt: skip
@click.option("--keep-loaded", is_flag=True, help="Keep the pseudo-compiler in memory.")
@offline_option
@output_option
@json_option
def command(
    specs: str | None,
    compiler: str | None,
    pseudo_program: Path | None,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile SPECS and report what each phase took; the programs are not kept.

    SPECS is a text file with a spec on each line, a .jsonl of rows {"spec": …}, or `-` for
    lines of standard input, which is also read when SPECS is left out of a pipe.
    """
    wishes = _read_wishes(specs)
    given = read_text(pseudo_program) if pseudo_program else None
    from ..benchmarks import compiling
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler

    settings = {key: value for key, value in options.items() if value not in (None, False)}
    settings |= {"num_specs": len(wishes), "pseudo_program": "given" if given else "written"}
    if options["bits"]:
        settings["bits"] = str(options["bits"])  # as earlier reports have it
    chosen = {key: value for key, value in options.items() if value is not None}
    jobs = [Compilation(wish.spec, given or wish.pseudo_program) for wish in wishes]
    loaded = Compiler.load(compiler, progress=status, **chosen)
    with measured("compile", settings, output, as_json) as rows:
        with loaded:
            rows.extend(compiling.run(loaded, jobs, status if as_json else say))
        if all("error" in row for row in rows):
            raise PawError(f"none of {len(rows)} specs was compiled: {rows[0]['error']}")


def _read_wishes(specs: str | None) -> list[Wish]:
    """Read the specs; OptionError for none."""
    if specs not in (None, "-") and Path(str(specs)).suffix == ".jsonl":
        return read_wishes([Path(str(specs))])
    text = read_input(None, Path(specs)) if specs and specs != "-" else read_input(specs, None)
    found = [Wish(line.strip(), "") for line in text.splitlines() if line.strip()]
    if not found:
        raise OptionError("there is no spec", hint="Give a file with a spec on each line.")
    return found
