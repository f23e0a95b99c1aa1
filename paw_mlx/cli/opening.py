"""Which process computes what a command asks: the daemon where it runs, else this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..client.wire import find_wanted
from ..progress import Progress, quiet

if TYPE_CHECKING:
    from ..functions import Function
    from ..program import Program
    from ..runner import Runner


def open_function(
    program: str | Program,
    *,
    local: bool = False,
    progress: Progress = quiet,
    threshold: float | None = None,
    otherwise: str | None = None,
    labels: Any = None,
    schema: Any = None,
    regex: Any = None,
    **base: Any,
) -> Function:
    """Return a function, on the daemon where it runs, unless it shall be `local`.

    Its arguments and errors are those of `paw_mlx.function`. Should the daemon go away, this
    process goes on.
    """
    from .. import function

    wire = None if local else find_wanted()
    if wire is None:
        types: dict[str, Any] = {"labels": labels, "schema": schema, "regex": regex}
        wishes: dict[str, Any] = {"threshold": threshold, "otherwise": otherwise}
        return function(program, **types, **wishes, **base, progress=progress)
    from ..annotations import output_of
    from ..client.connection import open_function as open_remote

    def run_here(made: Program) -> Runner:
        return function(made, **base, progress=progress).runner

    return open_remote(
        wire,
        program,
        output_of(labels, schema, regex),
        {"threshold": threshold, "otherwise": otherwise},
        base,
        progress,
        run_here,
    )
