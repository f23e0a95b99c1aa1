"""Mutations of pickles by their opcodes: others, fewer, twice, with other arguments."""

from __future__ import annotations

import pickletools
import warnings
from functools import lru_cache
from random import Random

from .mutate import mutate_bytes

_POOL = [
    *(opcode.code.encode("latin-1") for opcode in pickletools.opcodes),
    b"cos\nsystem\n",
    b"cposix\nsystem\nX\x02\0\0\0id\x85R",
    b"cbuiltins\neval\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ccollections\nOrderedDict\n)R",
    b"\x8c\x02os\x8c\x06system\x93",
    b"\x8a\xff" + b"\x7f" * 255,
    b"\x8b\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
    b"\x8d" + b"\xff" * 8,
    b"\x95\0\0\0\0\0\0\0\x7f",
    b"I" + b"9" * 6000 + b"\n",
    b"L" + b"9" * 6000 + b"L\n",
    b"V\\ud800\n",
    b"S'\\xzz'\n",
    b"]q\x10h\x10a",
    b"}q\x11(h\x11h\x11u",
    b"(" * 40,
    b"\x85" * 200,
    b"]" + b"\x85" * 3000,
    b"q\0" * 40,
    b"h\0" * 40,
]


@lru_cache(32)
def pickle_parts(data: bytes) -> tuple[bytes, ...]:
    """Cut a pickle into its opcodes, with their arguments; what follows its end is one more."""
    starts = list[int]()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            starts += [at for _, _, at in pickletools.genops(data) if at is not None]
    except Exception:  # as far as it goes
        pass
    ends = [*starts[1:], len(data)]
    return tuple(data[start:end] for start, end in zip(starts, ends, strict=False)) or (data,)


def pickle_mutation(data: bytes, chance: Random) -> bytes:
    """Change a pickle by its opcodes, or as bytes."""
    if chance.random() < 0.15:
        return mutate_bytes(data, chance)
    parts = [*pickle_parts(data)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(parts)) if parts else 0
        other = chance.randrange(len(parts)) if parts else 0
        match chance.randrange(6):
            case 0:
                parts[at:at] = [chance.choice(_POOL)]
            case 1:
                parts[at : at + chance.choice((1, 1, 3))] = []
            case 2:
                parts[at:at] = parts[other : other + chance.choice((1, 5))]
            case 3:
                parts[at : at + 1] = parts[other : other + 1]
            case 4 | 5 if parts:
                opcode, argument = parts[at][:1], parts[at][1:]
                parts[at] = (
                    opcode + mutate_bytes(argument, chance) if argument else chance.choice(_POOL)
                )
    return b"".join(parts)
