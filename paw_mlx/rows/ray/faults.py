"""What may be wrong with a node or its worker, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import DaemonError, OptionError, PawError
from ...version import VERSION
from ...words import counted
from .calls import Message


def no_package(error: Exception) -> OptionError | None:
    """Return what is wrong if a worker died because its node has no paw-mlx."""
    if "No module named 'paw_mlx" not in str(error):
        return None
    hint = f"There: pip install 'paw-mlx[ray]=={VERSION}'"
    return OptionError("a node of the cluster has no paw-mlx", hint=hint)


def other_version(node: str, version: str) -> OptionError:
    """Say that a node has another version of paw-mlx."""
    return OptionError(
        f"the node {node} has paw-mlx {version}, and this machine {VERSION}",
        hint=f"There: pip install 'paw-mlx[ray]=={VERSION}'",
    )


def not_loaded(node: str, error: Message, base: Message) -> PawError:
    """Return why a node could not load its base: the error of a record, with the node."""
    told = PawError.of(error | {"message": f"on the node {node}: {error['message']}"})
    if Path(base["reference"]).is_absolute():
        told.add_note("A base that is named by its path has to lie there on every node.")
    return told


def other_base(others: Mapping[str, Message], node: str, told: Message) -> OptionError | None:
    """Return what is wrong if a node's base is not that of the others, by what each said of it.

    Its weights have to be the same, and where the device is, also how they are held.
    """
    for other, had in others.items():
        mine, theirs = told["identity"], had["identity"]
        if mine["base"] != theirs["base"]:
            kind, one, two = "weights", theirs["base"][:12], mine["base"][:12]
        elif told["device"] == had["device"] and mine["form"] != theirs["form"]:
            kind, one, two = "forms", theirs["form"], mine["form"]
        else:
            continue
        return OptionError(
            f"the nodes hold bases of different {kind}: {one} on {other}, and {two} on {node}",
            hint="Name the base by its reference, and with --bits how it is held.",
        )
    return None


def deaths(number: int, node: str | None, error: Exception) -> DaemonError:
    """Say that workers died in a row, the last on a node, or (None) before it was on any."""
    if node is None:
        *_, reason = str(error).splitlines() or [type(error).__name__]
        return DaemonError(f"Ray began no worker, and has tried {number} times: {reason}")
    return DaemonError(
        f"{counted(number, 'worker')} in a row died without an answer, the last on the node {node}",
        hint="Each holds the base in memory, and there may be no room. Ray's logs say more.",
    )


def no_room(kind: type[PawError], waited_s: float) -> PawError:
    """Say that workers have waited for so long, and no node took them."""
    return kind(
        f"no node of the cluster has had room for a worker for {waited_s:g} s",
        hint="Others may hold its CPUs: `ray status` says what is in use.",
    )
