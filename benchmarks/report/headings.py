"""What is said of a report around its tables: title, subjects, machine, run, notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from paw_mlx.benchmarks.report.tables import Record, number, percent
from paw_mlx.machine import power_mode

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
    "quality": "Quality of compiled programs",
    "compile": "Compiling",
    "versus": "Engines side by side",
    "reproduce": "The paper's figures",
}
_ABOUT = {"accuracy": ("source", "interpreter"), "quality": ("compiler", "interpreter")}
_VERSIONS = ("python", "mlx", "mlx_lm", "paw_mlx")
_MATRIX_UNITS = {True: "its matrix units in use", False: "its matrix units out of reach"}
_USUAL_THERMAL = (None, "nominal", "no warning recorded")

Report = Mapping[str, Any]


def title(report: Report) -> str:
    """Say what was measured, on what, when."""
    here = "" if report["kind"] == "reproduce" else f" on {chip(report)}"  # rows say where
    about = _join(report["settings"].get(key) for key in _ABOUT.get(report["kind"], ()))
    about = f": {about}," if about else ""
    return f"{_TITLES[report['kind']]}{about}{here}, {report['date'][:10]}"


def chip(report: Report) -> str:
    """Say what the numbers were measured on: the GPU if it computed, else the chip."""
    card = report["machine"]
    gpu = card.get("gpu") if card.get("device") == "gpu" else None
    return str(gpu or card.get("chip") or "an unknown chip")


def subject(row: Record) -> str:
    """Name a row: `program, qwen3-0.6b, 4 bits`."""
    names = ("subject", "model") if "subject" in row else ("engine", "method", "what", "spec")
    return _join([*(row.get(name) for name in names), bits(row), row.get("noise"), row.get("set")])


def bits(row: Record) -> str | None:
    """Say `4 bits`, if that is known; `float32` where a CPU computes with what is stored in 16."""
    if not row.get("bits"):
        return None
    return "float32" if row.get("form") == "float32" else f"{row['bits']} bits"


def notes(report: Report) -> Iterator[str]:
    """Say what of the settings a reader of the tables has to know."""
    settings = report["settings"]
    if settings.get("program"):
        digest, rank = settings.get("program_digest"), settings.get("rank")
        adapter = f"rank {rank}" if rank else "no adapter"
        which = f" ({digest}), {adapter}, {settings.get('prefix_tokens')} prefix tokens"
        yield f"Program: {settings['program']}{which if digest else ''}."
    if any(row.get("same_outputs") for row in report["rows"]) and settings.get("max_tokens"):
        yield f"Same outputs: the first {settings['max_tokens']} tokens of each are compared."
    if settings.get("clustered"):
        yield f"{settings['clustered']:,} functions: {_CLUSTERED}"
    if settings.get("commonest") is not None:
        yield f"Always saying the commonest output: {percent(settings['commonest'])} %."
    if isinstance(settings.get("groups"), str):
        yield f"Groups: {settings['groups']}."


def machine_line(report: Report) -> str:
    """Say in a sentence what the machine is."""
    card = report["machine"]
    memory, speed = card.get("memory_bytes"), card.get("bandwidth_gb_s")
    known = card.get("device") != "gpu" or card.get("gpu") == card.get("chip")
    parts = [
        card.get("chip"),
        None if known else card.get("gpu"),
        card.get("gpu_cores") and f"{card['gpu_cores']} GPU cores",
        card.get("cpu_cores") and f"{card['cpu_cores']} CPU cores",
        memory and f"{memory / 2**30:.0f} GiB",
        speed and f"{number(speed)} GB/s",
        card.get("os"),
        card.get("device") and f"on the {str(card['device']).upper()}",
        _MATRIX_UNITS.get(card.get("matrix_units")),
        card.get("blas") and f"BLAS {card['blas']}",
        *(f"{name.replace('_', '-')} {card[name]}" for name in _VERSIONS if card.get(name)),
        card.get("commit") and f"commit {str(card['commit'])[:10]}",
    ]
    return f"Machine: {_join(parts)}."


def run_line(report: Report) -> str:
    """Say when and by which command, and what the machine was doing besides."""
    date = report["date"].replace("T", " ").removesuffix("Z")
    parts = [f"Run: {date} UTC, `{report['command']}`"]
    for when in ("start", "end"):
        found = report["conditions"].get(when) or {}
        thermal, load = found.get("thermal"), found.get("load")
        said = [*_power(found), thermal and f"thermal state {thermal}"]
        if told := _join([*said, None if load is None else f"load {load:.1f}"]):
            parts.append(f"{when}: {told}")
    return "; ".join(parts) + "."


def strains(report: Report) -> list[str]:
    """Say what slowed a run down or sped it up, as it began or ended."""
    found: list[str] = []
    for when in ("start", "end"):
        told = report["conditions"].get(when) or {}
        found += [f"in {said}" if said.endswith("mode") else said for said in _power(told)]
        if told.get("thermal") not in _USUAL_THERMAL:
            found.append(f"thermal state {told['thermal']}")
    return list(dict.fromkeys(found))


def _power(condition: Record) -> Iterator[str]:
    """What is not usual about a machine's power: a battery, a low or high power mode."""
    if condition.get("power") == "battery":
        yield "on battery"
    if (mode := power_mode(condition)) in ("low", "high"):
        yield f"{mode} power mode"


def _join(parts: Iterable[Any]) -> str:
    return ", ".join(str(part) for part in parts if part)
