"""Who computes what a command asks: the daemon where it runs, else this process, or several."""

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
    workers: int | None = None,
    ray: str | None = None,
    progress: Progress = quiet,
    threshold: float | None = None,
    otherwise: str | None = None,
    labels: Any = None,
    schema: Any = None,
    regex: Any = None,
    **base: Any,
) -> Function:
    """Return a function, on the daemon where it runs, unless it shall be `local`.

    Nor is it the daemon's with `workers`, so many processes of this machine, or at `ray`, a
    cluster's address, where so many are started. Its other arguments and errors are those of
    `paw_mlx.function`. Should the daemon go away, this process goes on.
    """
    from .. import function

    types: dict[str, Any] = {"labels": labels, "schema": schema, "regex": regex}
    wishes: dict[str, Any] = {"threshold": threshold, "otherwise": otherwise}
    here = {**types, **wishes, **base, "progress": progress}
    if ray is not None:
        from ..rows.ray import open_function as open_on_ray

        return open_on_ray(program, ray, num_workers=workers, **here)
    if workers is not None:
        from ..serving.workers import open_workers

        return open_workers(program, workers, **here)
    wire = None if local else find_wanted()
    if wire is None:
        return function(program, **here)
    from ..annotations import output_of
    from ..client.connection import open_function as open_remote

    def run_here(made: Program) -> Runner:
        return function(made, **base, progress=progress).runner

    return open_remote(
        wire,
        program,
        output_of(labels, schema, regex),
        wishes,
        base,
        progress,
        run_here,
    )
