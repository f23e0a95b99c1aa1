"""The wire format of prompts: what the published programs were compiled with.

A template is rendered when a program is made and never again; these texts are therefore
frozen. The shape of a pseudo-program is the one the paper's compiler writes.
"""

from __future__ import annotations

from collections.abc import Iterable

from .program import PLACEHOLDER, Template


def pseudo_program(spec: str, examples: Iterable[tuple[str, str]] = ()) -> str:
    """Return the pseudo-program of a spec and a few (input, output) pairs."""
    lines = ["[PSEUDO_PROGRAM]", f"Task: {spec.strip()}"]
    pairs = [line for i, o in examples for line in (f"Input: {i}", f"Output: {o}")]
    if pairs:
        lines += ["", "Examples:", *pairs]
    return "\n".join([*lines, "[END_PSEUDO_PROGRAM]"])


def template(pseudo: str, turn: tuple[str, str]) -> Template:
    """Return the template of a pseudo-program, inside the base's chat turn (opening, closing).

    The pseudo-program may contain the placeholder's own text; it must not act as one.
    """
    pseudo = pseudo.replace(PLACEHOLDER, PLACEHOLDER.strip("{}"))
    return Template(f"{turn[0]}{pseudo}\n\n[INPUT]\n", f"\n[END_INPUT]{turn[1]}")
