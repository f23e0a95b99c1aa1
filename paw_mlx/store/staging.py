"""Where a program waits for its name, written and checked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import formats
from ..cases import KEY, without_cases
from ..files import read_errors
from ..profiles import Profile
from ..program import Program
from ..program_names import root


@contextmanager
def staging() -> Iterator[Path]:
    """Yield where a program waits for its name: a fixed place, used under the lock.

    What a killed process left there is swept by the next.
    """
    folder = root() / ".staging"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder / "program.paw"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage(
    source: Path | Program, staged: Path, dtype: str | None, profile: Profile | None
) -> Program | None:
    """Write a program where it waits, without its cases; return one from outside as copied."""
    if isinstance(source, Program):
        formats.save(without_cases(source), staged, dtype, profile=profile)
        return None
    if source.is_dir():
        formats.save(without_cases(formats.load(source)), staged, dtype=None)
        return formats.load(staged)
    with read_errors(source):
        shutil.copyfile(source, staged)
    program = formats.load(staged)
    if KEY in program.meta:
        formats.replace_meta(staged, without_cases(program).meta)
    return program
