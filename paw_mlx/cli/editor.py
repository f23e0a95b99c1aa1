"""A pseudo-program in its author's editor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import files
from ..errors import CompileError, PseudoProgramError
from .voice import say

if TYPE_CHECKING:
    from ..compiler.compilation import Compilation
    from ..compiler.pipeline import Compiler


def edit_pseudo_program(compiler: Compiler, compilation: Compilation, kept: Path) -> None:
    """Let the author correct the pseudo-program; what cannot be used then is kept in a file."""
    text = compilation.pseudo_program
    if text is None:
        compilation.origin = "edited"
        try:
            text = compiler.write(compilation)
        except PseudoProgramError as error:
            say(str(error))
            text = error.answer
    text = _open_editor(text)
    try:
        compilation.pseudo_program = compiler.check(text)
    except CompileError as error:
        write_text(kept, text)
        error.add_note(f"What you wrote is in {kept}: pass it with --pseudo-program.")
        raise


def _open_editor(text: str) -> str:
    """Return the text as its author leaves it; CompileError if it is emptied."""
    try:
        edited = click.edit(text, extension=".txt")
    except click.ClickException as error:
        raise CompileError(
            f"no editor could be run: {error.message}", hint="Set $EDITOR, or use --pseudo-program."
        ) from error
    if edited is not None and not edited.strip():
        raise CompileError("the pseudo-program was emptied, so nothing is compiled")
    return text if edited is None else edited


def write_text(path: Path, text: str) -> None:
    """Write a text to a file, with one line end; DiskError if that cannot be."""
    with files.replacing(path) as temporary:
        temporary.write_text(text.strip() + "\n", encoding="utf-8")
