"""The Ray library, and the connection to a cluster. Ray says nothing of its own meanwhile."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ... import settings
from ...errors import DaemonError, OptionError

_PROBE_S = 5.0
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and no settings
_SETTINGS, _TLS_ALERT = 4, 21
_FORMS = "local, auto, HOST:PORT or ray://HOST:PORT"


def library() -> Any:
    """Return the package `ray`; OptionError where it is missing."""
    settings.hush_ray()
    try:
        import ray
    except ImportError as error:
        raise OptionError(
            "rows on a cluster need Ray, which is not installed",
            hint="`pip install 'paw-mlx[ray]'` brings it.",
        ) from error
    return ray


def connect(address: str | None) -> bool:
    """Connect this process to a cluster, and return whether it was not connected before.

    `address` is None or `local` for a Ray of this machine alone, which is started and listens on
    127.0.0.1, `auto` for the one that runs on this machine, or `HOST:PORT`, or `ray://HOST:PORT`. A
    process that is connected stays so, and names none. DaemonError if nothing answers there,
    OptionError for other addresses.
    """
    ray = library()
    if ray.is_initialized():
        if address in (None, "auto"):
            return False
        raise OptionError(
            f"this process is connected to Ray already, and cannot connect to {address}",
            hint="Name no address, or call ray.shutdown() first.",
        )
    address = address or "local"
    if address not in ("local", "auto"):
        _probe(address)
    alone = address == "local"
    more = {"include_dashboard": False} if alone else {}
    try:
        with warnings.catch_warnings(), _hushed(), _on_loopback(ray) if alone else nullcontext():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **more)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        ray.shutdown()
        reason, hint = _tell(error, address)
        raise DaemonError(f"no Ray at {address}: {reason}", hint=hint) from error
    return True


@contextmanager
def _on_loopback(ray: Any) -> Iterator[None]:
    """Have a Ray that the block starts listen on 127.0.0.1, as it does by itself on a Mac.

    It has no option for that: `_node_ip_address="127.0.0.1"` means the machine's other address.
    """
    constants = ray._private.ray_constants
    kept = getattr(constants, "ENABLE_RAY_CLUSTER", True)
    try:
        constants.ENABLE_RAY_CLUSTER = False
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = kept


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep off stderr what Ray's C++ writes there while it tries, before it has a log."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _tell(error: BaseException, address: str) -> tuple[str, str]:
    """Return why Ray could not be reached, and a way out."""
    cause: BaseException | None = error
    while cause:
        if type(cause).__name__ == "AuthenticationError" or "InvalidAuthToken" in str(cause):
            return "it asks for a token", "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH."
        cause = cause.__cause__ or cause.__context__
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if address == "auto":
        return reason, "Start one with `ray start --head`, or leave the address out."
    return reason, "Python and Ray have to be of the same versions on all machines of a cluster."


def _probe(address: str) -> None:
    """Raise DaemonError unless a gRPC server is there: Ray itself would try for minutes.

    One begins with its settings (RFC 9113, 3.4); one that wants TLS is heard to be there, too.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise OptionError(f"{address!r} is no address of Ray: it can be {_FORMS}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_S) as there:
            there.sendall(_GREETING)
            frame = there.recv(9)
        known = frame[3:4] == bytes([_SETTINGS]) or frame[:1] == bytes([_TLS_ALERT])
        reason = None if known else "who listens there is not Ray"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        hint = "`ray start --head` starts one, and says its address."
        raise DaemonError(f"no Ray at {address}: {reason}", hint=hint)
