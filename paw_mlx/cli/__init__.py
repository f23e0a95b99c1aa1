"""The command line: the only place that prints.

stdout carries the result and nothing else; progress, status and warnings go to stderr.
Exit codes: 0 done, 1 an error, 2 a wrong call, 130 interrupted.
"""

from __future__ import annotations

import click

from ..errors import PawError
from .command import Failure, LazyGroup

# command -> its module here; imported only when the command is called or listed.
COMMANDS = {
    "run": "Run a program on one input.",
    "map": "Run a program on every row of a file.",
    "filter": "Pass on the lines that a program gives a label.",
    "rank": "Sort the rows of a file by what a program's labels say of them.",
    "test": "Run a program on cases and report its accuracy.",
    "compare": "Tell whether one program is better than another, case by case.",
    "case": "Keep cases with a program: add, list, remove, import.",
    "fix": "Keep a case that a program got wrong.",
    "drift": "Tell whether inputs have moved away from a program's cases.",
    "calibrate": "Make a program's probabilities true, and choose when it abstains.",
    "compile": "Compile an English spec to a program.",
    "train": "Make a program from input/output examples.",
    "tune": "Train a program on, and keep the result only if it is better.",
    "pairs": "Have a teacher write input/output pairs for a spec.",
    "lint": "Find what is known to go wrong in a spec.",
    "jobs": "Show the work that goes on in the background.",
    "inspect": "Show what a program or adapter holds, without loading a model.",
    "convert": "Convert an adapter, program or base to another layout.",
    "verify": "Compare what two artifacts compute.",
    "diff": "Show what changed between two programs.",
    "demo": "Watch example programs run on held-out inputs.",
    "pull": "Fetch a base, a compiler or a program to this machine.",
    "ls": "List what is on this machine.",
    "rm": "Remove some of it.",
    "rollback": "Make an earlier version of a program the current one.",
    "convert-compiler": "Convert a published compiler for MLX.",
    "train-compiler": "Train a compiler on a corpus of fuzzy functions.",
    "daemon": "Keep functions in memory, so that a call takes milliseconds.",
    "serve": "Serve functions over HTTP on this machine, with a workbench.",
    "mcp": "Offer functions to agents as tools (Model Context Protocol).",
    "mac": "Put a function into macOS: Quick Actions, Shortcuts, Raycast and others.",
    "completion": "Print what completes commands in zsh, bash or fish.",
    "bench": "Measure speed, memory and accuracy on this machine.",
    "doctor": "Check this machine, and say what is missing.",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paw-mlx")
def cli() -> None:
    """Run fuzzy functions, compiled to small programs, offline on this machine."""


def run_words(words: list[str], read: bytes | None = None) -> int:
    """Run a command line, and show its error; return its exit code.

    `read` is all of standard input, if it was read already.
    """
    try:
        code = cli.main(words, prog_name="paw-mlx", standalone_mode=False, obj=read)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except PawError as error:  # of --help and --version, which no command prints
        Failure(error, as_json=False, among_rows=False).show()
        return 1
    except (KeyboardInterrupt, click.Abort):
        return 130
