"""References to compilers."""

from __future__ import annotations

from pathlib import Path

from .. import settings
from ..errors import NotFound, listed
from ..profiles import PROFILES
from ..progress import Progress, quiet
from .places import local, snapshot
from .repo import COMPILER, Repo


def resolve_compiler(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return a compiler's folder, as published or converted; fetched if it is not here.

    What an interrupt left of a download is taken up again. NotFound, HubError, OfflineError,
    DiskError or OptionError.
    """
    repo = compiler_repo(reference)
    if repo:
        return snapshot(repo, COMPILER, offline or settings.offline(), progress)
    if (path := local(reference)) and (path / "meta.json").is_file():
        return path
    raise NotFound(f"{reference} is no compiler: it has no meta.json")


def compiler_repo(reference: str) -> Repo | None:
    """Return the hub repo that a compiler's reference means; None for a folder.

    NotFound for neither.
    """
    known = published_compilers()
    if reference not in known and local(reference):
        return None
    repo = Repo.of(known.get(reference, reference))
    if repo is None or repo.file:
        raise NotFound(
            f"no compiler {reference!r}: it is no path, no hub repo and no known name",
            hint=f"Known: {listed([name for name in known if '/' not in name])}.",
        )
    return repo


def published_compilers() -> dict[str, str]:
    """Return what the published compilers may be called, and their hub repos."""
    repos = [profile.compiler for profile in PROFILES.values() if profile.compiler]
    return {repo.split("/")[-1]: repo for repo in repos} | {repo: repo for repo in repos}
