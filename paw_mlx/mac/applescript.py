"""A script of AppleScript's: for the Script menu, for `osascript`, and to load from others."""

from __future__ import annotations

from pathlib import Path

from . import scripts, text
from .plan import Plan, Request

SCRIPTS = Path("Library/Scripts")
_BODY = """\
property about : {about}

-- Answer a text of at most some 900 kB; an error says why there is no answer.
on answerTo(theText)
\tset theScript to {script}
\treturn do shell script "/bin/sh -c " & quoted form of theScript & " paw-mlx " & ¬
\t\tquoted form of theText without altering line endings
end answerTo

-- `osascript FILE TEXT` prints an answer; the Script menu answers what the clipboard holds.
on run argv
\tif class of argv is list and (count of argv) > 0 then return answerTo(item 1 of argv)
\tset theAnswer to answerTo(the clipboard as text)
{branches}\
\tdisplay dialog theAnswer with title {title} buttons {{"Copy", "OK"}} default button "OK"
\tif button returned of result is "Copy" then set the clipboard to theAnswer
end run
"""


def applescript(request: Request) -> Plan:
    """Return a script's source, with a branch for each label."""
    source = _BODY.format(
        about=text.applescript(request.about),
        script=text.applescript(scripts.printing(request, "printf '%s' \"$1\"")),
        branches=_branches(request.labels),
        title=text.applescript(request.title),
    )
    folder = request.into or request.home / SCRIPTS
    place, compiled = (folder / f"{request.title}{end}" for end in (".applescript", ".scpt"))
    words = text.sh(*compiling(str(place), str(compiled)))
    steps = (
        f"To compile it on a Mac: {words}",
        f"In a script: set paw to load script POSIX file {text.applescript(str(compiled))}, "
        "then paw's answerTo(theText).",
    )
    return Plan(request, place, {"": source.encode()}, made=compiled, steps=steps)


def compiling(source: str, compiled: str) -> list[str]:
    """Return the command of a Mac that compiles a script (osacompile(1))."""
    return ["/usr/bin/osacompile", "-o", compiled, source]


def _branches(labels: tuple[str, ...]) -> str:
    if not 0 < len(labels) <= scripts.MAX_BRANCHES:
        return ""
    lines = ["-- what is to be done with each label goes here; a comparison ignores case"]
    for number, label in enumerate(labels):
        word = "else if" if number else "if"
        lines += [f"{word} theAnswer is {text.applescript(label)} then"]
    return "".join(f"\t{line}\n" for line in [*lines, "end if"])
