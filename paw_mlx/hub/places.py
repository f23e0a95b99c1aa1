"""Where a reference may lie: at a path here, in the hub's cache, on the hub."""

from __future__ import annotations

from pathlib import Path

from ..errors import OfflineError, listed
from ..progress import Progress
from . import client
from .repo import COMPILER, Repo, Wanted


def local(reference: str) -> Path | None:
    """Return what lies on this machine under a reference taken as a path, if anything does."""
    try:
        path = Path(reference).expanduser()
        return path if reference and path.exists() else None
    except (OSError, RuntimeError):  # too long for a name; the home of nobody
        return None


def snapshot(repo: Repo, wanted: Wanted, offline: bool, progress: Progress) -> Path:
    """Return what is wanted of a repo: from the cache, or fetched."""
    found, missing = client.cached(repo, wanted)
    if found:
        return found
    if offline:
        raise OfflineError(
            f"offline, and the {wanted.what} {repo} is not on this machine: "
            f"{listed(missing)} missing",
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
