"""The memory bandwidth of a chip, and only as surely as it is known.

Apple calls both bins of an M3, M4 or M5 Max by one name, and both bandwidths of the M6: the
brand string alone tells neither. GPU cores tell bins apart, memory sizes where those are
unknown; what they leave open is a range, and a chip that is not listed has no bandwidth here.
Figures are the makers', in GB/s; what counts is what one token can be read with at best.
Not listed are M5 Ultra and A18 Pro, for whose figures there is one source alone; nor is one
enough to say which M6 has which of its two.
"""

from __future__ import annotations

from typing import NamedTuple


class Bin(NamedTuple):
    """One make of a chip: GB/s, and what tells it from the chip's other makes."""

    gb_s: float
    gpu_cores: tuple[int, ...] = ()
    memory_gb: tuple[int, ...] = ()


CHIPS: dict[str, tuple[Bin, ...]] = {
    "Apple M1": (Bin(68),),
    "Apple M1 Pro": (Bin(200),),
    "Apple M1 Max": (Bin(400),),
    "Apple M1 Ultra": (Bin(800),),
    "Apple M2": (Bin(100),),
    "Apple M2 Pro": (Bin(200),),
    "Apple M2 Max": (Bin(400),),
    "Apple M2 Ultra": (Bin(800),),
    "Apple M3": (Bin(100),),
    "Apple M3 Pro": (Bin(150),),
    "Apple M3 Max": (Bin(300, (30,), (36, 96)), Bin(400, (40,), (48, 64, 128))),
    "Apple M3 Ultra": (Bin(819),),
    "Apple M4": (Bin(120),),
    "Apple M4 Pro": (Bin(273),),
    "Apple M4 Max": (Bin(410, (32,), (36,)), Bin(546, (40,), (48, 64, 128))),
    "Apple M5": (Bin(153),),
    "Apple M5 Pro": (Bin(307),),
    "Apple M5 Max": (Bin(460, (32,), (36,)), Bin(614, (40,), (48, 64, 128))),
    "Apple M6": (Bin(153), Bin(170)),
    "NVIDIA H200": (Bin(4800),),  # 4.8 TB/s in the "NVIDIA H200 Tensor Core GPU" datasheet
}


def bandwidth(
    chip: str | None, gpu_cores: int | None = None, memory_bytes: int | None = None
) -> float | tuple[float, float] | None:
    """Return the GB/s of a chip as the system names it, (least, most) where that is not certain.

    None for a chip that is not listed. A number of GPU cores that no make of the chip has
    proves nothing, and then neither does the memory.
    """
    bins = CHIPS.get((chip or "").strip(), ())
    memory_gb = None if memory_bytes is None else round(memory_bytes / 2**30)
    for key, found in (("gpu_cores", gpu_cores), ("memory_gb", memory_gb)):
        if found is None or len(bins) < 2:
            continue
        fitting = tuple(one for one in bins if found in getattr(one, key))
        if not fitting:
            break
        bins = fitting
    if not bins:
        return None
    speeds = sorted(one.gb_s for one in bins)
    return speeds[0] if len(bins) == 1 else (speeds[0], speeds[-1])
