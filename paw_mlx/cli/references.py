"""What a shell completes where a command names a program: names in the store, and files.

Completing says nothing and never fails: what cannot be read has no names. It has to be quick, so
neither the store nor what reads programs is imported.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.shell_completion import CompletionItem

from ..program_names import current_in, is_name, root, versions_in


class Reference(click.types.StringParamType):
    """A text that names a program: completed by names, `name@vN`, and files of a pattern."""

    def __init__(self, files: str = "") -> None:
        self._files = files  # a pattern, or empty where only stored programs are meant

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so, versions behind an @, and what files may be meant."""
        found = [
            CompletionItem(name, help=about)
            for name, about in sorted(_names("@" in incomplete))
            if name.startswith(incomplete)
        ]
        files = [CompletionItem(incomplete, type="file", pattern=self._files)]
        return found + files if self._files else found


def _names(with_versions: bool) -> Iterator[tuple[str, str]]:
    """Yield the names of stored programs, or of all their versions, and a word about each."""
    for folder in (path for depth in ("*", "*/*") for path in root().glob(depth)):
        name = folder.relative_to(root()).as_posix()
        try:
            versions = versions_in(folder) if is_name(name) else []
            now = current_in(folder, versions) if versions else 0
        except OSError:  # a DiskError is one
            continue
        if with_versions:
            yield from ((f"{name}@v{v}", "current" if v == now else "") for v in versions)
        elif versions:
            yield name, f"v{now}"


NAME = Reference()
PROGRAM = Reference("*.paw")
ARTIFACT = Reference("*")  # a program or an adapter in any layout
FILE = click.Path(readable=False)  # of rows; what cannot be read is said where it is opened
