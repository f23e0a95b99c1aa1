"""A spec to a program, or to a function, in one call."""

from __future__ import annotations

import re
from typing import Any

from ..annotations import output_of
from ..functions import Function
from ..interpreter.engine.grammar import check_output
from ..interpreter.shared import function
from ..output import TEXT, Regex
from ..program import Program
from .pipeline import Compiler


def compile(
    spec: str,
    *,
    pseudo_program: str | None = None,
    labels: object = None,
    schema: object = None,
    regex: str | re.Pattern[str] | Regex | None = None,
    text: bool = False,
    **options: Any,
) -> Program:
    """Compile a spec to a program.

    Its outputs are of the type that `labels`, `schema` or `regex` say, as in `function`; else the
    labels that the spec names ("Return ONLY one of: …"), unless `text` says any text. `options`
    are those of `Compiler.load`, its reference being `compiler`.
    """
    output = TEXT if text else output_of(labels, schema, regex)
    check_output(output or TEXT)
    with Compiler.load(options.pop("compiler", None), **options) as compiler:
        return compiler.compile(spec, pseudo_program=pseudo_program, output=output)


def compile_and_load(spec: str, **options: Any) -> Function:
    """Compile a spec, as `compile` does, to a function on the interpreter it was compiled for."""
    program = compile(spec, **options)
    kept = {key: options[key] for key in ("interpreter", "offline", "progress") if key in options}
    return function(program, **kept)
