"""Programs from a PAW service: the hosted one or one's own, at PAW_API_URL.

Every step is bounded: https (plain http only on this machine), a time for each wait and for the
whole, a size. The key goes to the service alone and follows no redirect; no other machine sends
us back to this one. What arrives is loaded before the store takes it.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from . import settings, store
from .deadline import Deadline, open_by
from .errors import FormatError, HubError, NotFound, OptionError, PawError
from .files import disk_errors, scratch
from .progress import Progress, quiet

MAX_BYTES = 256 << 20
ANSWER_S, DEADLINE_S = 30.0, 300.0
_ID = re.compile(r"[0-9a-f]{16,64}")


def fetch(reference: str, url: str, key: str = "", progress: Progress = quiet) -> Path:
    """Download the program of a slug or id, store it under that name, return its file.

    A slug's `@vN` becomes the stored version. OptionError for an address that is not safe,
    NotFound, HubError, FormatError for bytes that are no sound program, DiskError for the disk.
    """
    if not is_safe(url):
        raise OptionError(
            f"{url} is no address to fetch programs from",
            hint="Use https://, or http:// on this machine (PAW_API_URL).",
        )
    progress(f"fetching {reference} from {url}")
    deadline = Deadline(DEADLINE_S)
    name, _, version = reference.partition("@v")
    program_id = name if _ID.fullmatch(name) else _resolve(reference, url, key, deadline)
    with scratch(settings.data_dir() / "programs") as folder:
        path = folder / "program.paw"
        _download(f"{url}/api/v1/programs/{program_id}/download", key, path, deadline)
        try:
            stored = store.add(path, name, int(version) if version else None)
        except FormatError as error:
            raise FormatError(f"{url} gave no sound program for {reference}: {error}") from error
    return store.find(f"{name}@v{stored}")


def _resolve(slug: str, url: str, key: str, deadline: Deadline) -> str:
    """Ask the service for the id of a slug; HubError if it gives none."""
    where = f"{url}/api/v1/programs/resolve/{quote(slug)}"
    with _open(where, key, deadline) as response:
        data = _read(response, where)
    try:
        program_id = str(json.loads(data)["program_id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HubError(f"{url} answered without a program_id for {slug}") from error
    if not _ID.fullmatch(program_id):
        raise HubError(f"{url} answered with a malformed program_id for {slug}")
    return program_id


def _download(where: str, key: str, path: Path, deadline: Deadline) -> None:
    """Write the program at an address to a file, once the service has made it."""
    while True:
        with _open(where, key, deadline) as response:
            if response.status != HTTPStatus.ACCEPTED:
                return _save(response, where, path)
            asked = response.headers.get("Retry-After", "")
            wait_s = min(max(float(asked), 0.05), ANSWER_S) if asked.isdecimal() else 3.0
        if time.monotonic() + wait_s > deadline.end:
            raise HubError(
                f"{where} is not ready after {deadline.seconds:g} s",
                hint="The service is still making the program; try again later.",
            )
        time.sleep(wait_s)


def _save(response: http.client.HTTPResponse, where: str, path: Path) -> None:
    """Write an answer to a file; HubError if it is too long, too late or cut short."""
    size = 0
    with disk_errors(f"write {path}"), path.open("wb") as file:
        while chunk := _read(response, where):
            size += len(chunk)
            if size > MAX_BYTES:
                raise HubError(f"a program has at most {MAX_BYTES} bytes, and more arrived")
            file.write(chunk)
    if response.length:
        raise HubError(f"the connection was cut after {size} bytes, {response.length} early")


def _open(where: str, key: str, deadline: Deadline) -> http.client.HTTPResponse:
    """Send a GET and return the response, to be closed."""
    request = urllib.request.Request(where)
    if key:
        request.add_unredirected_header("X-API-Key", key)
    with _network_errors(where):
        return open_by(deadline, request, ANSWER_S, _Redirects())


def _read(response: http.client.HTTPResponse, where: str) -> bytes:
    """Return the next bytes of an answer, at most a MiB; none at its end."""
    with _network_errors(where):
        return response.read(1 << 20)


@contextmanager
def _network_errors(where: str) -> Iterator[None]:
    """Raise whatever goes wrong with a request as one of our errors."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{where} has no such program (404)") from error
        refused = error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        raise HubError(
            f"{where} answered {error.code} {error.reason}",
            hint="Set PAW_API_KEY to a key that the service knows." if refused else None,
        ) from error
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, PawError):
            raise
        raise HubError(f"cannot fetch {where}: {getattr(error, 'reason', error)}") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects where they may lead, and take nothing else of them."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> Any:
        fp.close()  # its body is nobody's, and would be read to its end
        if not may_lead(req.full_url, newurl):
            raise HubError(f"{req.full_url} redirects to {newurl}, which is not fetched from")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def may_lead(asked: str, to: str) -> bool:
    """Return whether one address may redirect to another: to this machine, from it alone."""
    return is_safe(to) and (is_loopback(asked) or not is_loopback(to))


def is_safe(url: str) -> bool:
    """Return whether an address is https, or http on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    schemes = ("http", "https") if is_loopback(url) else ("https",)
    return bool(parts.hostname) and parts.scheme in schemes


def is_loopback(url: str) -> bool:
    """Return whether an address is one of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
