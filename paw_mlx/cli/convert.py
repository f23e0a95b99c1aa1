"""`paw-mlx convert`: an adapter, program or base in another layout, with a receipt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..words import counted, megabytes
from .command import Command
from .common import print_json, table, written
from .options import (
    BITS,
    PATH,
    alpha_option,
    bits_option,
    group_size_option,
    interpreter_option,
    json_option,
    offline_option,
    rslora_option,
)
from .references import ARTIFACT
from .specs import read_text
from .voice import say, status


@click.command(cls=Command)
@click.argument("source", metavar="SRC", type=ARTIFACT)
@click.argument("out", metavar="DST", type=PATH)
@click.option(
    "--to", type=click.Choice(["paw", "dir", "peft", "gguf", "mlx"]),
    help="DST's layout.  [default: by its suffix]",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["f32", "f16", "bf16", "q8_0", "q4_0", "mlx-q4"]),
    help="How A and B are stored.  [default: as they are, if DST can]",
)  # fmt: skip
@interpreter_option("The base, where SRC does not name it.")
@click.option(
    "--template", metavar="FILE", type=PATH,
    help="Make a program with this prompt around {INPUT_PLACEHOLDER}.",
)  # fmt: skip
@click.option(
    "--pseudo-program", metavar="FILE", type=PATH,
    help="Make a program with this pseudo-program.",
)  # fmt: skip
@click.option(
    "--spec", metavar="FILE", type=PATH, help="The spec it came from.",
)  # fmt: skip
@click.option("--rank", type=int, help="Of a torch checkpoint, to be checked.")
@alpha_option
@rslora_option
@click.option(
    "--no-cases", is_flag=True, help="Leave behind the cases that are kept with a program."
)
@click.option("--base", is_flag=True, help="SRC is a base: make an MLX one of it.")
@bits_option("Of a --base.", (*BITS, 32))
@group_size_option("Weights of a --base that share a scale.")
@offline_option
@json_option
def command(
    source: str,
    out: Path,
    base: bool,
    bits: int | None,
    group_size: int,
    no_cases: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Convert SRC, an adapter or program in any layout, to DST, and prove it.

    SRC is a path, a name in the store, or a repo on the Hugging Face hub, or a folder in one:
    .paw, program folder, PEFT, GGUF, MLX, or a torch checkpoint, whose pickle is read and never
    executed. What was written is read back and compared with SRC; if they differ, DST stays as
    it was. The cases kept with a stored program travel in its meta.json.
    """
    if base:
        packing = {"bits": bits, "group_size": group_size}
        _convert_base(source, out, packing, as_json, no_cases=no_cases, **options)
        return
    if bits:
        raise click.UsageError("--bits is for a --base; an adapter has --dtype")
    from ..convert.program import convert
    from ..convert.receipt import ReceiptError

    texts = {key: options.pop(key) for key in ("template", "pseudo_program", "spec")}
    options |= {k: read_text(path, strip=k != "template") for k, path in texts.items() if path}
    try:
        made = convert(source, out, with_cases=not no_cases, progress=status, **options)
    except ReceiptError as error:
        if not as_json:
            say(table(error.receipt.rows()))
        raise
    with written(out):
        if as_json:
            print_json(made.record())
            return
        say(table(made.receipt.rows()))
        before, after = made.layouts
        size = megabytes(made.num_bytes)
        cases = f", with {counted(made.num_cases, 'case')}" if made.num_cases else ""
        told = f"{before} → {after}, {size} in {made.seconds:.1f} s, {made.receipt}"
        click.echo(f"wrote {out}: {told}{cases}")


def _convert_base(
    source: str, out: Path, packing: dict[str, int | None], as_json: bool, **options: Any
) -> None:
    if any(value for key, value in options.items() if key != "offline"):
        raise click.UsageError("--base takes --bits and --offline, and no option of adapters")
    from .. import hub
    from ..convert.base import convert_base

    path = hub.resolve_base(source, offline=options["offline"], progress=status)
    made = convert_base(path, out, progress=status, **packing)
    size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
    with written(out):
        if as_json:
            print_json({"path": str(made), "bytes": size})
        else:
            click.echo(f"wrote {made}: {megabytes(size)}")
