"""References to programs, and to adapters."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from .. import service, settings, store
from ..errors import NotFound, OfflineError
from ..progress import Progress, quiet
from . import client
from .places import local, offline_error, snapshot
from .repo import ADAPTER, Repo


def resolve_program(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return a program's file or folder; it is fetched if it is not on this machine.

    A stored name wins over a file of that name: write `./name` for the file. What the PAW
    service gives is kept in the store. NotFound, HubError, OfflineError, DiskError or
    OptionError.
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
        return _resolve_on_hub(reference, offline)
    address = settings.service()
    if address is None:
        raise not_stored
    if offline:
        raise offline_error(reference, "it is not in the store", " --as NAME")
    return service.fetch(reference, *address, progress)


def resolve_adapter(reference: str, *, offline: bool = False, progress: Progress = quiet) -> Path:
    """Return an adapter's or a program's file or folder; fetched if it is not here.

    Besides what `resolve_program` takes: a hub repo of a PEFT or MLX adapter
    (`org/name[@revision]`), a folder in one (`org/name/folder`), or a GGUF file in one.
    NotFound, HubError, OfflineError, DiskError or OptionError.
    """
    offline = offline or settings.offline()
    repo = None if local(reference) else Repo.of(reference)
    if repo is None or _is_stored(reference):
        return resolve_program(reference, offline=offline, progress=progress)
    if Path(reference.split("/")[0]).is_dir():  # `examples/typo` is a path
        raise NotFound(f"no such file or folder: {reference}")
    if repo.file is None or repo.file.endswith(".gguf"):
        return snapshot(repo, ADAPTER, offline, progress)
    if repo.file.endswith(".paw"):
        return _resolve_on_hub(reference, offline)
    return _resolve_folder(repo, reference, offline, progress)


def _resolve_folder(repo: Repo, reference: str, offline: bool, progress: Progress) -> Path:
    """Return a program's file, or else an adapter's folder, of a name with or without suffix."""
    folder = str(repo.file).rstrip("/")
    whole, wanted = replace(repo, file=None), ADAPTER.below(folder)
    if found := client.cached(whole, wanted)[0]:
        return found / folder
    try:
        return _resolve_on_hub(reference, offline)
    except (NotFound, OfflineError) as error:
        with suppress(NotFound):
            return snapshot(whole, wanted, offline, progress) / folder
        raise error


def _is_stored(reference: str) -> bool:
    if not store.is_reference(reference):
        return False
    try:
        return store.find(reference).is_file()
    except NotFound:
        return False


def _resolve_on_hub(reference: str, offline: bool) -> Path:
    """Return a program's file in a repo or dataset on the hub, from the cache or fetched."""
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
        raise offline_error(reference, client.absence(repo, kinds), " --as NAME")
    try:
        return client.download_file(repo, kinds[0])
    except NotFound:
        with suppress(NotFound):
            return client.download_file(repo, kinds[-1])
        raise
