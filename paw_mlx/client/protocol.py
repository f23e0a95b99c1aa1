"""What the daemon and its clients say to each other over a Unix socket.

A message is a JSON object, perhaps with bytes after it:

    4 bytes   PAWD
    4 bytes   how many bytes the JSON has, big-endian
    4 bytes   how many bytes follow it
    …         both

The client begins with `hello`, which names the protocol and the version, and need not wait for the
daemon's. Every request has an `id`, and its answers the same:

    run       program, input, options; `stream`       piece…, then result or error
    cancel    (no answer)                             none, or what was on its way
    cut       program, input, options                 cut
    open      program                                 opened: identity, max_in_flight, warnings
    put       key, and the program's bytes            (no answer, or error)
    status                                            status
    stop                                              ok; it ends when its calls have ended

`program` is an object: `key`, which names bytes that were put, `output` (a type's record) if it is
not the program's own, and on what to run it: `interpreter`, `bits`, `group_size`, `strict`,
`offline`. A key that is not known is answered by `unknown`: put it and ask again. Errors are their
records. Nothing here is executed, and all sizes are bounded.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from ..errors import FormatError
from ..version import VERSION

PROTOCOL = 1  # raised when messages change their meaning
MAX_JSON_BYTES = 32 << 20  # an input, above all
MAX_BODY_BYTES = 256 << 20  # a program
HELLO_BYTES = 1024  # a client's hello at most
# On what a program is run, as a request says it: keywords of `paw_mlx.function`.
BASE: dict[str, type] = {
    "interpreter": str,
    "bits": int,
    "group_size": int,
    "strict": bool,
    "offline": bool,
}
HEAD = struct.Struct(">4sII")
_MAGIC = b"PAWD"
HELLO = {"op": "hello", "protocol": PROTOCOL, "version": VERSION}


def pack(message: Mapping[str, Any], body_bytes: int = 0) -> bytes:
    """Return a message as it goes over the wire, without the bytes that follow it.

    FormatError for one that is too long.
    """
    text = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    head = HEAD.pack(_MAGIC, len(text), body_bytes)
    sizes(head)
    return head + text


def sizes(head: bytes) -> tuple[int, int]:
    """Return how many bytes of JSON follow a head, and how many after those.

    FormatError for what is no head, or announces too much.
    """
    magic, num_json, num_body = HEAD.unpack(head)
    if magic != _MAGIC:
        raise FormatError("the other side does not speak the daemon's protocol")
    for size, limit in ((num_json, MAX_JSON_BYTES), (num_body, MAX_BODY_BYTES)):
        if size > limit:
            raise FormatError(f"a message has {size:,} bytes, and may have {limit:,}")
    return num_json, num_body


def unpack(data: bytes) -> dict[str, Any]:
    """Return a message from its JSON; FormatError for what is no object."""
    try:
        message = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"a message is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise FormatError("a message is no object")
    return message
