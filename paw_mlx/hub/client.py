"""The Hugging Face hub: what its cache holds, what it sends, and its errors as ours.

The only module that knows huggingface_hub. Looking into the cache makes no request.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DiskError, HubError, NotFound, OptionError, PawError, listed
from ..files import exists, find_files, read_errors
from . import hashes, unchecked
from .repo import BASE, GGUF, Repo, Wanted

# What a disk says without naming a file, besides that it is full.
_DISK_ERRNOS = (errno.EFBIG, errno.EIO)
_PARTS = "*.????????.incomplete"  # of files: huggingface_hub goes on with none that it calls so
_LOCKED_S = 0.1
_UNCHECKED = "what came of it was not yet checked against its hashes"


def cached(repo: Repo, wanted: Wanted = BASE) -> tuple[Path | None, str]:
    """Return what the Hugging Face cache holds of a repo, or else why it is of no use.

    No request is made.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if repo.file:
        return cached_file(repo), absence(repo)
    with _hub_errors(repo):
        try:
            keys = {"revision": repo.revision, "local_files_only": True, **_selection(repo, wanted)}
            folder = Path(snapshot_download(repo.id, **keys))
        except LocalEntryNotFoundError as error:
            _check_readable(repo)
            incomplete = getattr(error, "snapshot_path", None)
            lacking = wanted.lacking(Path(incomplete)) if incomplete else []
            return None, f"{listed(lacking or ['its files'])} missing"
        if _wants_gguf(repo, wanted):
            names = _check_one_gguf(repo, [path.name for path in find_files(folder, "*.gguf")])
            files, lacking = [folder / name for name in names], [] if names else ["*.gguf"]
        else:
            files, lacking = _select(folder, repo, wanted), wanted.lacking(folder)
        if lacking:
            return None, f"{listed(lacking)} missing"
        if unchecked.is_unchecked(_folder(repo, "model"), files):
            return None, _UNCHECKED
    return (files[0] if _wants_gguf(repo, wanted) else folder), ""


def cached_file(repo: Repo, kind: str = "model") -> Path | None:
    """Return the one file of a repo (`kind`: model or dataset) if the cache holds it, checked."""
    found = _find_file(repo, kind)
    with _hub_errors(repo):
        return None if found and unchecked.is_unchecked(_folder(repo, kind), [found]) else found


def absence(repo: Repo, kinds: Iterable[str] = ("model",)) -> str:
    """Return why `cached_file` finds no file of any of these kinds."""
    came = any(_find_file(repo, kind) for kind in kinds)
    return _UNCHECKED if came else f"{repo.file} missing"


def _find_file(repo: Repo, kind: str) -> Path | None:
    # Not hf_hub_download(local_files_only=True): it may ask the hub which agent it serves.
    from huggingface_hub import try_to_load_from_cache

    with _hub_errors(repo):
        found = try_to_load_from_cache(
            repo.id, str(repo.file), revision=repo.revision, repo_type=kind
        )
        if not isinstance(found, str):
            _check_readable(repo, kind)
            return None
    return Path(found)


def _check_readable(repo: Repo, kind: str = "model") -> None:
    """Raise DiskError if a repo is in the cache and one may not look: it is not absent then."""
    folder = _folder(repo, kind)
    for part in (folder / "refs", folder / "snapshots"):
        if exists(part):
            with read_errors(part):
                next(part.iterdir(), None)


def _folder(repo: Repo, kind: str) -> Path:
    """Return where the cache keeps a repo."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE).expanduser().resolve()  # as huggingface_hub does
    return cache / f"{kind}s--{repo.id.replace('/', '--')}"


def download(repo: Repo, wanted: Wanted = BASE) -> Path:
    """Fetch what is wanted of a repo; return its folder in the cache, or its one GGUF file.

    NotFound if the repo lacks some of it, OptionError for several GGUF files, HubError for the
    network and for a file that has not its hash, DiskError for the disk.
    """
    from huggingface_hub import HfApi, snapshot_download

    if _wants_gguf(repo, wanted) and not repo.file:
        with _hub_errors(repo):
            names = HfApi().list_repo_files(repo.id, revision=repo.revision)
        ggufs = _check_one_gguf(repo, [name for name in names if name.endswith(".gguf")])
        if not ggufs:
            raise NotFound(f"{repo} on the Hugging Face hub holds no .gguf file")
        repo = replace(repo, file=ggufs[0])
    if repo.file:
        return download_file(repo)
    with _arriving(repo, "model"):
        if found := cached(repo, wanted)[0]:  # it came while we waited
            return found
        keys: dict[str, Any] = {"revision": repo.revision, **_selection(repo, wanted)}
        folder = Path(snapshot_download(repo.id, tqdm_class=_bar(), **keys))
        hashes.check(_select(folder, repo, wanted), _asking(repo, "model"), repo)
    if lacking := wanted.lacking(folder):
        raise NotFound(
            f"{repo} on the Hugging Face hub is no {wanted.what}: it has no {listed(lacking)}",
            hint=f"If it holds GGUF files, name one: {repo.id}/FILE.gguf"
            if wanted is BASE
            else None,
        )
    return folder


def download_file(repo: Repo, kind: str = "model") -> Path:
    """Fetch the one file of a repo (`kind`: model or dataset) into the cache."""
    from huggingface_hub import hf_hub_download

    with _arriving(repo, kind):
        if found := cached_file(repo, kind):
            return found
        path = hf_hub_download(repo.id, str(repo.file), revision=repo.revision, repo_type=kind)
        hashes.check([Path(path)], _asking(repo, kind), repo)
    return Path(path)


@contextmanager
def _arriving(repo: Repo, kind: str) -> Iterator[None]:
    """Have what comes in the block known as unchecked until it ends; errors of it become ours."""
    folder = _folder(repo, kind)

    def sweep(files: list[Path]) -> None:
        _remove_parts(folder)
        hashes.remove_damaged(files, _asking(repo, kind))

    with _hub_errors(repo), unchecked.arriving(folder, sweep):
        yield


def _remove_parts(folder: Path) -> None:
    """Remove parts of files whose fetching was killed; of one that goes on the lock is taken."""
    from huggingface_hub.utils import WeakFileLock

    for part in find_files(folder / "blobs", _PARTS):
        etag = part.name[: -len(_PARTS) + 1]
        place = folder.parent / ".locks" / folder.name / f"{etag}.lock"
        with suppress(TimeoutError), WeakFileLock(place, timeout=_LOCKED_S):
            part.unlink(missing_ok=True)


def _asking(repo: Repo, kind: str) -> Callable[[Path], str | None]:
    """Return what says a cached file's ETag: its blob is called by it, or else the hub says."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    folder = _folder(repo, kind)

    def ask(path: Path) -> str | None:
        if path.parent == folder / "blobs":  # which may be a link into a store that all repos share
            return path.name
        if path.is_symlink():
            return path.readlink().name
        real = path.parent.resolve() / path.name
        commit, *names = real.relative_to(folder / "snapshots").parts
        url = hf_hub_url(repo.id, "/".join(names), revision=commit, repo_type=kind)
        return get_hf_file_metadata(url).etag

    return ask


def _select(folder: Path, repo: Repo, wanted: Wanted) -> list[Path]:
    """Return the files of a snapshot that are wanted."""
    from huggingface_hub.utils import filter_repo_objects

    names = [str(path.relative_to(folder)) for path in find_files(folder, "*", below=True)]
    return [folder / name for name in filter_repo_objects(names, **_selection(repo, wanted))]


def _selection(repo: Repo, wanted: Wanted) -> dict[str, Any]:
    """Return what snapshot_download takes: the same offline and online, or else the offline
    check asks for files that nobody wanted."""
    wanted = GGUF if _wants_gguf(repo, wanted) else wanted
    return {"allow_patterns": list(wanted.patterns), "ignore_patterns": list(wanted.ignored)}


def _wants_gguf(repo: Repo, wanted: Wanted) -> bool:
    """Return whether one GGUF file of a repo is meant, and not a folder in it."""
    return repo.is_gguf and not wanted.folder


def _check_one_gguf(repo: Repo, names: list[str]) -> list[str]:
    """Return the names, at most one; OptionError for several."""
    if len(names) > 1:
        raise OptionError(
            f"{repo} holds {len(names)} GGUF files: {listed(sorted(names))}",
            hint=f"Name one: {repo.id}/{sorted(names)[0]}",
        )
    return names


def _bar() -> Any:
    """Return huggingface_hub's progress bar, all of it for terminals only."""
    from huggingface_hub.utils import tqdm

    class TerminalBar(tqdm):
        def __init__(self, *args: Any, **keys: Any) -> None:
            super().__init__(*args, **{"disable": None, **keys})

    return TerminalBar


def cached_models() -> list[tuple[str, Path]]:
    """Return the model repos in the Hugging Face cache: each one's id and folder.

    DiskError if the cache may not be read. (huggingface_hub's own scan of it ends at the first
    repo that one may not read.)
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    if not exists(cache):
        return []
    with read_errors(cache):
        folders = sorted(path for path in cache.iterdir() if path.name.startswith("models--"))
    return [(path.name.removeprefix("models--").replace("--", "/", 1), path) for path in folders]


def unreachable(timeout_s: float) -> str | None:
    """Return why the hub gives no answer in so many seconds; None if it gives one."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=timeout_s)
    except Exception as error:  # of the HTTP client, the system, or a malformed HF_ENDPOINT
        return f"cannot reach the hub at {constants.ENDPOINT}: {_first_line(error)}"
    return None


@contextmanager
def _hub_errors(repo: Repo) -> Iterator[None]:
    """Raise huggingface_hub's errors, and those of its HTTP client, as ours."""
    from huggingface_hub.errors import HfHubHTTPError

    # The HTTP client changed between releases (httpx, httpx2): take its root from here.
    transport: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except PawError:
        raise
    except (transport, OSError, ValueError, RuntimeError) as error:
        raise _translate(error, repo) from error


def _translate(error: Exception, repo: Repo) -> PawError:
    """Return our error for one of huggingface_hub's, its HTTP client's, or the disk's."""
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
        return DiskError(
            f"the disk is full: {repo} does not fit in {constants.HF_HUB_CACHE}",
            hint="Free some space, or set HF_HOME to a folder on another disk.",
        )
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK_ERRNOS):
        return DiskError(
            f"cannot read or write {repo} in {constants.HF_HUB_CACHE}: {error.strerror or error}",
            hint="Mend that folder, or set HF_HOME to another.",
        )
    return HubError(
        f"fetching {repo} from {hub} failed: {_first_line(error)}",
        hint="Try again; nothing was half-installed.",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
