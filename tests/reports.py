"""Hand-made reports of every kind, as a large MacBook might write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paw_mlx.benchmarks.report.report import stat

CARD: dict[str, Any] = {
    "chip": "Apple M4 Max",
    "model": "Mac16,5",
    "gpu_cores": 40,
    "cpu_cores": 16,
    "memory_bytes": 64 * 2**30,
    "bandwidth_gb_s": 546.0,
    "os": "macOS 26.2 (25C56)",
    "python": "3.13.1",
    "mlx": "0.32.4",
    "mlx_lm": "0.32.2",
    "paw_mlx": "0.1.0",
    "wheel": "macosx_26_0_arm64",
    "device": "gpu",
    "gpu": "Apple M4 Max",
    "matrix_units": None,
    "blas": None,
    "commit": "0123456789abcdef",
}
CONDITION = {"power": "ac", "power_mode": "automatic", "thermal": "nominal", "load": 1.2}


def report(kind: str, rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": kind,
        "date": "2026-11-21T15:04:05Z",
        "command": f"paw-mlx bench {kind}",
        "machine": dict(CARD),
        "conditions": {"start": dict(CONDITION), "end": dict(CONDITION)},
        "synthetic": False,
        "settings": {"rounds": 5, "seed": 0},
        "rows": rows,
    } | changes


def near(value: float, spread: float = 0.02) -> dict[str, Any]:
    """A Stat of five measurements around a value."""
    return stat([value * (1 + spread * step) for step in (-1, -0.5, 0, 0.5, 1)])


def speed_row(subject: str, model: str, bits: int, decode: float, size: float) -> dict[str, Any]:
    return {
        "subject": subject,
        "model": model,
        "engine": "mlx-lm" if subject == "baseline" else "paw-mlx",
        "bits": bits,
        "form": "bfloat16" if bits == 16 else f"bfloat16, {bits}-bit g64",
        "weight_bytes": int(size),
        "adapter_bytes": 22_708_224 if subject == "program" else 0,
        "load_s": stat([size / 2e9]),
        "prefill_tok_s": near(20 * decode),
        "decode_tok_s": near(decode),
        "ttft_cold_s": near(8 / decode),
        "ttft_warm_s": near(2 / decode),
        "calls_s": {"1": near(decode / 10), "8": near(decode / 3), "32": near(decode / 1.5)},
        "active_bytes": int(1.05 * size),
        "peak_bytes": int(1.2 * size),
        "run_peak_bytes": int(1.15 * size),
        "cache_bytes": 100_000_000,
        "footprint_peak_bytes": int(1.3 * size),
        "batch_peak_bytes": int(1.4 * size),
        "expected_peak_bytes": int(1.19 * size),
        "token_bytes": int(size),
        "ceiling_tok_s": 546e9 / size,
        "skipped": None,
    }


def speed(**changes: Any) -> dict[str, Any]:
    rows = [
        speed_row("base", "qwen3-0.6b", 4, 520.0, 335.4e6),
        speed_row("program", "qwen3-0.6b", 4, 401.0, 358.1e6),
        speed_row("program", "qwen3-0.6b", 16, 190.0, 1215e6),
        speed_row("baseline", "qwen3-32b", 4, 23.2, 18.43e9),
        {
            "subject": "baseline",
            "model": "qwen3-32b",
            "engine": "mlx-lm",
            "bits": 16,
            "skipped": "it needs 67.6 GB, and 55.0 GB are to be had",
        },
    ]
    return report("speed", rows, **changes)


def accuracy_row(method: str, group: str, correct: int, num: int, **more: Any) -> dict[str, Any]:
    share = correct / num
    return {
        "method": method,
        "noise": None,
        "group": group,
        "num": num,
        "correct": correct,
        "accuracy": share,
        "low": max(0.0, share - 0.06),
        "high": min(1.0, share + 0.05),
    } | more


METHODS = {"bare": 2, "prompted": 10, "program": 74, "fixed": 52, "tuned-5": 60, "baseline": 69}


def accuracy(**changes: Any) -> dict[str, Any]:
    rows = []
    for method, correct in METHODS.items():
        made = {"seconds": 12.5} if method in ("program", "tuned-5") else {}
        rows.append(accuracy_row(method, "all", 2 * correct, 200, **made))
        rows.append(accuracy_row(method, "kind: closed label", correct, 100))
        rows.append(accuracy_row(method, "kind: free text", correct // 2, 50))
        rows.append(accuracy_row(method, "length: short", correct, 120))
        rows.append(accuracy_row(method, "category: extract | keys", correct, 150))
    rows.append(accuracy_row("program", "all", 140, 200, noise="typos"))
    return report("accuracy", rows, **changes)


def quality(**changes: Any) -> dict[str, Any]:
    rows = []
    for name, functions in (("unseen", 40), ("test", 60)):
        for method, share in {"bare": 0.1, "fixed": 0.4, "compiled": 0.55, "tuned-5": 0.7}.items():
            for group in ("all", "family: classify", "family: json | edit", "kind: redaction"):
                num = functions if group == "all" else functions // 4
                more: dict[str, Any] = {"set": name, "functions": num}
                if method == "compiled":
                    more |= {"gain_over": "fixed", "gain": 0.15, "gain_low": -0.01}
                    more |= {"gain_high": 0.3, "balanced": 0.615, "arbitrary": 9}
                row = accuracy_row(method, group, round(share * 12 * num), 12 * num, **more)
                rows.append({key: value for key, value in row.items() if key != "noise"})
    return report("quality", rows, **changes)


def compiling(**changes: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "spec": f"Say whether the e-mail is urgent, and why; the answer is one word ({i})",
            "pseudo_s": 20.0 + i,
            "encode_s": 3.0,
            "map_s": 0.25,
            "pseudo_peak_bytes": 2_600_000_000,
            "encode_peak_bytes": 900_000_000,
            "map_peak_bytes": 1_400_000_000,
            "total_s": 23.25 + i,
        }
        for i in range(3)
    ]
    error = "no answer of the pseudo-compiler was one"
    rows.append({"spec": "Sort this", "total_s": 9.0, "error": error})
    return report("compile", rows, **changes)


def versus(**changes: Any) -> dict[str, Any]:
    rows = [
        {
            "engine": engine,
            "version": version,
            "form": "bfloat16, 4-bit g64",
            "prefill_tok_s": near(20 * decode),
            "decode_tok_s": near(decode),
            "ttft_warm_s": near(4 / decode),
            "calls_s": near(decode / 9),
            "footprint_peak_bytes": 612_000_000,
            "same_outputs": same,
        }
        for engine, version, decode, same in (
            ("paw-mlx", "0.1.0", 700.0, "60/60"),
            ("mlx-lm", "0.32.2", 520.0, "57/60"),
        )
    ]
    reason = "llama-cpp-python is not installed; `pip install llama-cpp-python` compiles it"
    absent = {"engine": "llama.cpp", "version": None, "skipped": reason}
    return report("versus", [*rows, absent], **changes)


def reproduced(**changes: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "what": "decode, program",
            "paper": 31.6,
            "unit": "tok/s",
            "here": 401.0,
            "ratio": 401 / 31.6,
            "note": "program, qwen3-0.6b, 4 bits; the paper's is a MacBook M3",
        },
        {
            "what": "accuracy, program",
            "paper": 73.78,
            "unit": "%",
            "here": None,
            "ratio": None,
            "note": "not here yet; `paw-mlx bench accuracy fuzzybench` measures it",
        },
    ]
    return report("reproduce", rows, **changes)


EVERY: dict[str, Callable[..., dict[str, Any]]] = {
    "speed": speed,
    "accuracy": accuracy,
    "quality": quality,
    "compile": compiling,
    "versus": versus,
    "reproduce": reproduced,
}
