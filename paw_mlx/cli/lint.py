"""`paw-mlx lint`: what is known to go wrong in a spec."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ..lint import lint
from ..words import counted
from .command import Command
from .common import print_json, print_text, read_input
from .options import PATH, json_option
from .specs import Wish, read_wishes
from .voice import say, status


@click.command(cls=Command)
@click.argument("spec", required=False)
@click.option(
    "-f", "--file", "files", multiple=True, metavar="SPEC.txt", type=PATH,
    help="Read the spec from a file; several, or a .jsonl of specs, are checked one by one.",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Exit with 1 if anything is found.")
@json_option
def command(spec: str | None, files: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Find what is known to go wrong in SPEC, and say what would be better.

    SPEC is text, or `-` for standard input, which is also read when SPEC is left out of a pipe.
    Each finding is a code, what was found, and better wording below it. It is advice, and found by
    rules: nothing is run, and a spec without findings may still be a poor one. The exit code is 0.
    """
    if files and spec is not None:
        raise click.UsageError("give SPEC or --file, not both")
    wishes = read_wishes(files) if files else [Wish(read_input(spec, None), "")]
    several = len(wishes) > 1 or any(file.suffix == ".jsonl" for file in files)
    num_found = 0
    for wish in wishes:
        findings = lint(wish.spec)
        num_found += len(findings)
        if as_json:
            named = {"name": wish.name} if several else {}
            print_json(named | {"findings": [finding.record() for finding in findings]})
            continue
        for finding in findings:
            where = f"{wish.name}: " if several else ""
            better = finding.better.replace("\n", "\n    ")
            print_text(f"{where}{finding.code}: {finding.sentence}\n    {better}")
    if not (as_json or num_found):
        say("nothing found")
    if strict and num_found:
        raise click.exceptions.Exit(1)


def tell_findings(specs: Sequence[str]) -> None:
    """Say on a terminal what was found in a spec, a line each; of several specs, how much."""
    found = [findings for spec in specs if (findings := lint(spec))]
    if len(specs) > 1 and found:
        total = counted(sum(map(len, found)), "finding")
        status(
            f"lint: {total} in {len(found):,} of {len(specs):,} specs; `paw-mlx lint` shows them"
        )
        return
    for finding in found[0] if found else ():
        status(f"lint: {finding.sentence} ({finding.code})")
