"""What is said of a report around its tables: title, subjects, machine, run, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paw_mlx.benchmarks.machine import power_mode
from paw_mlx.benchmarks.tables import Row, either, percent

SYNTHETIC = (
    "Synthetic: randomly initialised weights of the exact shapes. Speed and memory are "
    "measured; outputs mean nothing."
)
_CLUSTERED = (
    "rows of one function stand or fall together; the interval counts rows, "
    "and is narrower than one that counts functions."
)
_TITLES = {
    "speed": "Speed and memory",
    "accuracy": "Accuracy",
    "compile": "Compiling",
    "versus": "Engines side by side",
    "reproduce": "The paper's figures",
}
_VERSIONS = ("python", "mlx", "mlx_lm", "paw_mlx")
_MATRIX_UNITS = {True: "its matrix units in use", False: "its matrix units out of reach"}


def partial(report: Mapping[str, Any]) -> Iterator[str]:
    """That the run did not come to its end, and why."""
    if why := report["settings"].get("partial"):
        yield f"Partial, for the run was cut short: {why}"


def notes(report: Mapping[str, Any]) -> Iterator[str]:
    """What of the settings a reader of the tables has to know."""
    settings = report["settings"]
    if settings.get("program"):
        yield f"Program: {_program(settings)}."
    if any(row.get("same_outputs") for row in report["rows"]) and settings.get("max_tokens"):
        yield f"Same outputs: the first {settings['max_tokens']} tokens of each are compared."
    if settings.get("clustered"):
        yield f"{settings['clustered']:,} functions: {_CLUSTERED}"
    if settings.get("commonest") is not None:
        yield f"Always saying the commonest output: {percent(settings['commonest'])} %."
    if isinstance(settings.get("groups"), str):
        yield f"Groups: {settings['groups']}."


def _program(settings: Mapping[str, Any]) -> str:
    """The program that ran: its name, and what tells it from others of that name."""
    digest, rank = settings.get("program_digest"), settings.get("rank")
    parts = [settings["program"] + (f" ({digest})" if digest else "")]
    if digest:
        parts.append(f"rank {rank}" if rank else "no adapter")
        parts.append(f"{settings['prefix_tokens']} prefix tokens")
    return ", ".join(parts)


def title(report: Mapping[str, Any]) -> str:
    """What was measured, on what, when."""
    here = "" if report["kind"] == "reproduce" else f" on {chip(report)}"  # rows say where
    known = (report["settings"].get(key) for key in ("source", "interpreter"))
    about = ", ".join(filter(None, known)) if report["kind"] == "accuracy" else ""
    return f"{_TITLES[report['kind']]}{about and f': {about},'}{here}, {report['date'][:10]}"


def chip(report: Mapping[str, Any]) -> str:
    """What the numbers were measured on: the GPU if it computed, else the chip."""
    card = report["machine"]
    gpu = card.get("gpu") if card.get("device") == "gpu" else None
    return str(gpu or card.get("chip") or "an unknown chip")


def subject(row: Row) -> str:
    """A row's name: `program, qwen3-0.6b, 4 bits`."""
    names = ("subject", "model") if "subject" in row else ("engine", "method", "what", "spec")
    parts = [str(row[name]) for name in names if row.get(name)]
    return ", ".join([*parts, *bits(row), *([row["noise"]] if row.get("noise") else [])])


def bits(row: Row) -> list[str]:
    """`4 bits`, if that is known; `float32` where a CPU computes with what is stored in 16."""
    dense = "float32" if row.get("form") == "float32" else None
    return [dense or f"{row['bits']} bits"] if row.get("bits") else []


def machine_line(report: Mapping[str, Any]) -> str:
    """The machine card in a sentence."""
    card = report["machine"]
    memory, speed = card.get("memory_bytes"), card.get("bandwidth_gb_s")
    gpu = card.get("gpu") if card.get("device") == "gpu" else None
    parts = [
        card.get("chip"),
        gpu if gpu != card.get("chip") else None,
        card.get("gpu_cores") and f"{card['gpu_cores']} GPU cores",
        card.get("cpu_cores") and f"{card['cpu_cores']} CPU cores",
        memory and f"{memory / 2**30:.0f} GiB",
        speed and f"{either(speed)} GB/s",
        card.get("os"),
        card.get("device") and f"on the {str(card['device']).upper()}",
        _MATRIX_UNITS.get(card.get("matrix_units")),
        card.get("blas") and f"BLAS {card['blas']}",
        *(f"{name.replace('_', '-')} {card[name]}" for name in _VERSIONS if card.get(name)),
        card.get("commit") and f"commit {str(card['commit'])[:10]}",
    ]
    return "Machine: " + ", ".join(str(part) for part in parts if part) + "."


def run_line(report: Mapping[str, Any]) -> str:
    """When and by which command, and what the machine was doing besides."""
    date = report["date"].replace("T", " ").removesuffix("Z")
    parts = [f"Run: {date} UTC, `{report['command']}`"]
    for when in ("start", "end"):
        found = report["conditions"].get(when) or {}
        load = found.get("load")
        said = [
            "on battery" if found.get("power") == "battery" else "",
            f"{mode} power mode" if (mode := power_mode(found)) in ("low", "high") else "",
            f"thermal state {found['thermal']}" if found.get("thermal") else "",
            "" if load is None else f"load {load:.1f}",
        ]
        if any(said):
            parts.append(f"{when}: {', '.join(filter(None, said))}")
    return "; ".join(parts) + "."
