"""A reader that does whatever an input asks for: the fuzzer has to find each of these."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time
from pathlib import Path

from paw_mlx.errors import FormatError

from ..target import Target


class _Obedient(FormatError):
    """An error whose sentence is none."""

    def __str__(self) -> str:
        return "two\nlines"


def faulty(sandbox: Path) -> Target:
    outside = sandbox.parent / "outside"
    (sandbox / "stranger.py").write_text("")
    sys.path.append(str(sandbox))

    def read(data: bytes) -> None:
        match data.decode().strip():
            case "refused":
                raise FormatError("it is refused")
            case "bug":
                raise KeyError(data)
            case "sentence":
                raise _Obedient("x")
            case "hang":
                time.sleep(60)
            case "balloon":
                bytearray(1 << 30)
            case "write":
                outside.write_bytes(data)
            case "read":
                Path("/etc/hostname").read_bytes()
            case "remove":
                outside.unlink(missing_ok=True)
            case "run":
                os.system("true")
            case "connect":
                socket.create_connection(("127.0.0.1", 9))
            case "import":
                import stranger  # noqa: F401
            case "compile":
                eval("1 + 1")
            case "crash":
                faulthandler._sigsegv()  # type: ignore[attr-defined]
            case "inside":
                (sandbox / "inside").write_bytes(data)

    return Target("faulty", [b"sound"], read, lambda data, chance: data)
