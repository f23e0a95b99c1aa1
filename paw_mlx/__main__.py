"""The `paw-mlx` script, and `python -m paw_mlx`."""

from __future__ import annotations

import sys

from .streams import reopen_closed, steady


def main() -> None:
    """Run the command line: `run` by the daemon where it can be, all else by click."""
    reopen_closed()
    words = sys.argv[1:]
    with steady():
        code = None
        if words[:1] == ["run"]:
            from . import quick  # what only it needs costs others nothing

            try:
                code = quick.run(words[1:])
            except KeyboardInterrupt:
                code = 130
        if code is None:
            from .cli import run_words

            code = run_words(words)
    sys.exit(code)


if __name__ == "__main__":
    main()
