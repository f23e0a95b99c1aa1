"""The Hugging Face hub: what its cache holds, what it sends, and its errors as ours.

The only module that knows huggingface_hub. Looking into the cache makes no request.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import HubError, NotFound, OptionError, PawError, listed

_REPO = re.compile(r"(?P<id>\w[^/@\s]*/[^/@\s]+)(?:@(?P<revision>[^/@\s]+))?(?:/(?P<file>[^@]+))?")


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


@dataclass(frozen=True)
class Wanted:
    """Which of a repo's files are asked for, and how to tell which of them lack."""

    what: str
    patterns: tuple[str, ...]
    ignored: tuple[str, ...]
    lacking: Callable[[Path], list[str]]


def _missing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if not (folder / name).exists()]


def _lacking_weights(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if not any(path.exists() for path in folder.glob("*.safetensors")):
        return ["*.safetensors"]
    if not index.exists():
        return []
    try:
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return ["a readable model.safetensors.index.json"]
    return _missing(folder, sorted(str(name) for name in shards))


def _lacking_base(folder: Path) -> list[str]:
    return [*_missing(folder, ("config.json", "tokenizer.json")), *_lacking_weights(folder)]


def _lacking_adapter(folder: Path) -> list[str]:
    weights = any((folder / name).exists() for name in _ADAPTERS)
    return _missing(folder, ("adapter_config.json", *(() if weights else _ADAPTERS[:1])))


def _lacking_compiler(folder: Path) -> list[str]:
    mapper = (folder / "mapper.safetensors").exists() or (folder / "lora_mapper.pt").exists()
    return [
        *_missing(folder, ("meta.json",)),
        *(f"compiler/{name}" for name in _lacking_base(folder / "compiler")),
        *([] if mapper else ["lora_mapper.pt"]),
    ]


_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors")
_TEXTS = ("*.json", "*.jinja", "merges.txt")
_WEIGHTS = "*.safetensors"
BASE = Wanted("base", (*_TEXTS, _WEIGHTS), ("*/*",), _lacking_base)
GGUF = Wanted("GGUF base", ("*.gguf",), ("*/*",), _lacking_base)
ADAPTER = Wanted(
    "adapter",
    ("adapter_config.json", *_ADAPTERS),
    ("*/*",),
    _lacking_adapter,
)
_ENCODER = tuple(f"compiler/{pattern}" for pattern in (*_TEXTS, _WEIGHTS))
COMPILER = Wanted(
    "compiler",
    ("meta.json", "lora_mapper.pt", "mapper.safetensors", *_ENCODER),
    (),
    _lacking_compiler,
)


def cached(repo: Repo, wanted: Wanted = BASE) -> tuple[Path | None, list[str]]:
    """What the Hugging Face cache holds of a repo, or what it lacks. No request is made."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if repo.file:
        return cached_file(repo), [repo.file]
    with _mapped(repo):
        try:
            keys = {"revision": repo.revision, "local_files_only": True, **_selection(repo, wanted)}
            folder = Path(snapshot_download(repo.id, **keys))
        except LocalEntryNotFoundError as error:
            incomplete = getattr(error, "snapshot_path", None)
            return None, (wanted.lacking(Path(incomplete)) if incomplete else []) or ["its files"]
    if repo.is_gguf:
        files = _one_gguf(repo, [path.name for path in folder.glob("*.gguf")])
        return (folder / files[0], []) if files else (None, ["*.gguf"])
    lacking = wanted.lacking(folder)
    return (None, lacking) if lacking else (folder, [])


def cached_file(repo: Repo, kind: str = "model") -> Path | None:
    # Not hf_hub_download(local_files_only=True): it may ask the hub which agent it serves.
    from huggingface_hub import try_to_load_from_cache

    with _mapped(repo):
        found = try_to_load_from_cache(
            repo.id, str(repo.file), revision=repo.revision, repo_type=kind
        )
    return Path(found) if isinstance(found, str) else None


def download(repo: Repo, wanted: Wanted = BASE) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    if repo.is_gguf and not repo.file:
        with _mapped(repo):
            names = HfApi().list_repo_files(repo.id, revision=repo.revision)
        ggufs = _one_gguf(repo, [name for name in names if name.endswith(".gguf")])
        if not ggufs:
            raise NotFound(f"{repo} on the Hugging Face hub holds no .gguf file")
        repo = replace(repo, file=ggufs[0])
    if repo.file:
        return download_file(repo)
    with _mapped(repo):
        keys: dict[str, Any] = {"revision": repo.revision, **_selection(repo, wanted)}
        folder = Path(snapshot_download(repo.id, tqdm_class=_bar(), **keys))
    if lacking := wanted.lacking(folder):
        raise NotFound(
            f"{repo} on the Hugging Face hub is no {wanted.what}: it has no {listed(lacking)}",
            hint=f"If it holds GGUF files, name one: {repo.id}/FILE.gguf"
            if wanted is BASE
            else None,
        )
    return folder


def download_file(repo: Repo, kind: str = "model") -> Path:
    from huggingface_hub import hf_hub_download

    with _mapped(repo):
        path = hf_hub_download(repo.id, str(repo.file), revision=repo.revision, repo_type=kind)
    return Path(path)


def _selection(repo: Repo, wanted: Wanted) -> dict[str, Any]:
    # The same offline and online, or the offline check asks for files nobody wanted.
    wanted = GGUF if repo.is_gguf else wanted
    return {"allow_patterns": list(wanted.patterns), "ignore_patterns": list(wanted.ignored)}


def _one_gguf(repo: Repo, names: list[str]) -> list[str]:
    if len(names) > 1:
        raise OptionError(
            f"{repo} holds {len(names)} GGUF files: {listed(sorted(names))}",
            hint=f"Name one: {repo.id}/{sorted(names)[0]}",
        )
    return names


def _bar() -> Any:
    """huggingface_hub's progress bar, all of it for terminals only."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, **{"disable": None, **keys})

    return Bar


def cached_repos() -> Iterable[Any]:
    """The repos in the Hugging Face cache, as huggingface_hub reports them."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return scan_cache_dir().repos
    except CacheNotFound:
        return ()


def unreachable(timeout_s: float) -> str | None:
    """Why the hub gives no answer in so many seconds; None if it gives one, whatever it says."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout_s)
    except Exception as error:  # of the HTTP client, the system, or a malformed HF_ENDPOINT
        return f"cannot reach the hub at {constants.ENDPOINT}: {_first_line(error)}"
    return None


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
