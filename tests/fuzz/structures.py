"""Mutations that know a format: its fields, its records, and what holds what."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache, partial
from random import Random

from .json_values import json_mutation
from .mutate import EDGES, ODD_TEXTS, Mutation, mutate_bytes, mutate_text

# safetensors, and the legacy container around it.


def safetensors_mutation(data: bytes, chance: Random) -> bytes:
    """Change a safetensors file: its header as JSON, its length, its data."""
    size = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + size], data[8 + size :]
    if len(data) < 10 or not header or chance.random() < 0.15:
        return mutate_bytes(data, chance)
    if chance.random() < 0.75:
        header = json_mutation(header.rstrip(), chance)
        size = len(header)
    elif chance.random() < 0.5:
        rest = mutate_bytes(rest, chance)
    else:
        size = chance.choice(EDGES) & ((1 << 64) - 1)
    return size.to_bytes(8, "little") + header + rest


def legacy_mutation(data: bytes, chance: Random) -> bytes:
    """Change a `PAW\\x02` container: its record, its tensors, its numbers."""
    size = int.from_bytes(data[8:12], "little")
    record, tensors = data[12 : 12 + size], data[12 + size :]
    if len(data) < 13 or chance.random() < 0.15:
        return mutate_bytes(data, chance)
    match chance.randrange(3):
        case 0:
            record = json_mutation(record, chance)
            size = len(record)
        case 1:
            tensors = safetensors_mutation(tensors, chance)
        case 2:
            size = chance.choice(EDGES) & 0xFFFFFFFF
    return data[:8] + size.to_bytes(4, "little") + record + tensors


# ZIPs.


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a ZIP of these members, always the same."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


@lru_cache(32)
def members_of(data: bytes) -> Mapping[str, bytes]:
    """Return the members of a ZIP; none of what is no sound one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > 8 << 20:
                return {}
            return {info.filename: archive.read(info) for info in archive.infolist()}
    except Exception:  # zipfile has many
        return {}


def zip_mutation(data: bytes, chance: Random, by_end: Mapping[str, Mutation]) -> bytes:
    """Change a ZIP: a member by what it is (`by_end` of its name), their list, or bytes."""
    members = members_of(data)
    if not members or chance.random() < 0.15:
        return mutate_bytes(data, chance)
    pairs = list(members.items())
    at = chance.randrange(len(pairs))
    name, held = pairs[at]
    match chance.randrange(12):
        case 0:
            pairs[at] = mutate_text(name, chance)[:300], held
        case 1:
            pairs.insert(chance.randint(0, len(pairs)), (name, held))
        case 2:
            del pairs[at]
        case 3:
            pairs.append((chance.choice(ODD_TEXTS)[:300] + name, held))
        case 4:
            chance.shuffle(pairs)
        case _:
            mutation = next((m for end, m in by_end.items() if name.endswith(end)), mutate_bytes)
            pairs[at] = name, mutation(held, chance)
    made = _write(pairs, chance)
    return mutate_bytes(made, chance) if chance.random() < 0.1 else made


def _write(pairs: list[tuple[str, bytes]], chance: Random) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")
        for name, held in pairs:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.external_attr = chance.choice((0, 0, 0, 0o100644 << 16, 0o120777 << 16, 0x10))
            if chance.random() < 0.1:
                info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, held)
    return file.getvalue()


def packed(by_end: Mapping[str, Mutation]) -> Mutation:
    """Return the mutation of ZIPs whose members are changed by these."""
    return partial(zip_mutation, by_end=by_end)
