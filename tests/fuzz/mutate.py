"""Mutations of bytes and texts: what has broken readers elsewhere, and chance."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

EDGES = [
    *(0, 1, 2, 3, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 1023, 4096),
    *(
        (1 << bits) + more
        for bits in (15, 16, 20, 24, 31, 32, 40, 62, 63, 64)
        for more in (-1, 0, 1)
    ),
]
ODD_TEXTS = [
    "",
    " ",
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\x1b[2J\x1b]0;x\x07",
    "\u202e",
    "\u2066evil\u2069",
    "\u200b",
    "\ufeff",
    "\ufffd",
    "\u2028",
    "\x85",
    "e\u0301",
    "\u0301" * 40,
    "ﷺ",
    "👩‍👩‍👧‍👦",
    "\U0010ffff",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</s>",
    "{INPUT_PLACEHOLDER}",
    "[END_INPUT]",
    "[PSEUDO_PROGRAM]",
    '"',
    "'",
    "\\",
    "\\u0000",
    "`",
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "%s%n",
    "{0.__class__}",
    "${HOME}",
    "$(id)",
    "<script>",
    "1e999",
    "-1",
    "NaN",
    "0x7fffffff",
    "9" * 5000,
    "a" * 3000,
    "(a+)+$",
    ".*" * 30 + "x",
    "[" * 200,
    "\\d{1,99999}",
]


def mutate_bytes(data: bytes, chance: Random) -> bytes:
    """Change some places of bytes, without knowing what they are."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = _place(made, chance)
        num = chance.choice((1, 1, 2, 4, 8, 16, chance.randint(1, 64)))
        match chance.randrange(9):
            case 0:
                if made:
                    made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at : at + 1] = bytes([chance.randrange(256)])
            case 2:
                size = chance.choice((1, 2, 4, 8))
                value = chance.choice(EDGES) & ((1 << 8 * size) - 1)
                made[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
            case 3:
                del made[at : at + num]
            case 4:
                made[at:at] = chance.randbytes(num)
            case 5:
                made[at:at] = made[at : at + num] * chance.choice((1, 1, 2, 50))
            case 6:
                other = _place(made, chance)
                made[at : at + num] = made[other : other + num]
            case 7:
                del made[at:]
            case 8:
                made[at : at + num] = chance.choice(ODD_TEXTS).encode("utf-8", "surrogatepass")
    return bytes(made)


def _place(data: bytes | bytearray, chance: Random) -> int:
    """Choose a place; headers are short and data is long, so half of them are near an end."""
    span = len(data) or 1
    near = min(span, 400)
    return chance.choice(
        (chance.randrange(span), chance.randrange(near), span - 1 - chance.randrange(near))
    )


def mutate_text(text: str, chance: Random) -> str:
    """Change some places of a text."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, num = chance.randint(0, len(text)), chance.choice((1, 1, 2, 8, 40))
        odd = chance.choice(ODD_TEXTS)
        match chance.randrange(7):
            case 0 | 1:
                text = text[:at] + odd + text[at:]
            case 2:
                text = text[:at] + text[at + num :]
            case 3:
                text = (
                    text[:at] + text[at : at + num] * chance.choice((2, 3, 100)) + text[at + num :]
                )
            case 4:
                text = (
                    text[:at]
                    + chr(chance.choice((chance.randrange(128), chance.randrange(0xD800))))
                    + text[at + 1 :]
                )
            case 5:
                lines = text.splitlines(keepends=True)
                chance.shuffle(lines)
                text = "".join(lines)
            case 6:
                text = text[:at] + odd + text[at + len(odd) :]
    return text[: 1 << 16]


def text_mutation(data: bytes, chance: Random) -> bytes:
    """Change UTF-8 as text, or as bytes."""
    if chance.random() < 0.2:
        return mutate_bytes(data, chance)
    text = mutate_text(data.decode("utf-8", "surrogateescape"), chance)
    return text.encode("utf-8", "surrogateescape")
