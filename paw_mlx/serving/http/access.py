"""Under what names a server is asked, and by what token."""

from __future__ import annotations

import html
import ipaddress
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ... import settings
from ...errors import NotFound, OptionError
from ...files import disk_errors
from .state import LOOPBACK

_LEAST_CHARS = 16
_LINK = """<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>paw-mlx</title>
<a href="{address}">The workbench</a>
"""


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, or of PAW_SERVE_TOKEN; None without any.

    NotFound for a file that cannot be read, OptionError for a token that is easily guessed.
    """
    token = settings.serve_token()
    if file:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NotFound(f"cannot read the token in {file}: {reason}") from error
    where = str(file) if file else "PAW_SERVE_TOKEN"
    if not token and file is None:
        return None
    if len(token) < _LEAST_CHARS or not token.isascii() or not token.isprintable():
        raise OptionError(
            f"the token of {where} has {len(token)} characters, and needs {_LEAST_CHARS} or more "
            "of ASCII",
            hint="For example: openssl rand -hex 32 > token; chmod 600 token",
        )
    return token


def names_of(
    listener: socket.socket, host: str, more: Iterable[str], token: str | None
) -> tuple[frozenset[str], bool]:
    """Return the names a server is asked by, and whether any address is one.

    Beyond loopback, OptionError without a token.
    """
    address = ipaddress.ip_address(listener.getsockname()[0].partition("%")[0])
    names = {*LOOPBACK, str(address), host.lower().rstrip("."), *(one.lower() for one in more)}
    if address.is_loopback:
        return frozenset(names), False
    if token is None:
        raise OptionError(
            f"{host} is reached from other machines, so the server needs a token",
            hint="Give --token-file FILE, or set PAW_SERVE_TOKEN.",
        )
    own = socket.gethostname().lower().removesuffix(".local")
    return frozenset({*names, own, f"{own}.local"}), address.is_unspecified


@contextmanager
def private_link(address: str) -> Iterator[Path]:
    """Yield a page that leads to an address, which this user alone can read; it is removed after.

    A browser hears what to open in its command line, and anyone may list those of all users.
    DiskError where no folder for temporary files can be written.
    """
    with ExitStack() as kept:
        with disk_errors("write a page for the browser"):
            folder = kept.enter_context(tempfile.TemporaryDirectory(prefix="paw-mlx-"))
            page = Path(folder, "workbench.html")  # in a folder of mode 0700
            page.touch(mode=0o600)
            page.write_text(_LINK.format(address=html.escape(address)), encoding="utf-8")
        yield page
