"""Where a reference may lie: at a path here, in the hub's cache, on the hub."""

from __future__ import annotations

from pathlib import Path

from .. import settings, wheels
from ..errors import OfflineError
from ..files import exists
from ..progress import Progress
from . import client
from .repo import COMPILER, Repo, Wanted


def local(reference: str) -> Path | None:
    """Return what lies on this machine under a reference taken as a path, if anything does."""
    try:
        path = Path(reference).expanduser()
    except RuntimeError:  # the home of nobody
        return None
    return path if reference and exists(path) else None


def origin(path: Path) -> str:
    """Return the hub repo or known name that a base's path was found under; "" for none."""
    path = path.absolute()
    for one in (path, path.parent):
        if one.parent.name == "snapshots" and one.parent.parent.name.startswith("models--"):
            return one.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    installed = path.parent.parent == (settings.data_dir() / "bases").absolute()
    return path.parent.name if installed and path.parent.name in wheels.WHEELS else ""


def snapshot(repo: Repo, wanted: Wanted, offline: bool, progress: Progress) -> Path:
    """Return what is wanted of a repo: from the cache, or fetched."""
    found, reason = client.cached(repo, wanted)
    if found:
        return found
    if offline:
        raise OfflineError(
            f"offline, and the {wanted.what} {repo} is not on this machine: {reason}",
            hint=f"Fetch it once with the network on: paw-mlx pull {repo}"
            if wanted is COMPILER
            else "Run this once with the network on.",
        )
    progress(f"fetching {repo} from the Hugging Face hub")
    return client.download(repo, wanted)


def offline_error(reference: str, reason: str, option: str = "") -> OfflineError:
    """Return the error for what `paw-mlx pull REFERENCE OPTION` would fetch with a network."""
    return OfflineError(
        f"offline, and {reference} is not on this machine: {reason}",
        hint=f"Fetch it once with the network on: paw-mlx pull {reference}{option}",
    )
