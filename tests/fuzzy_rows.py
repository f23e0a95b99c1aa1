"""A small file in FuzzyBench's form, written by hand: a function of each kind of output."""

from __future__ import annotations

import csv
import json
from pathlib import Path

LABEL = "Is it urgent? Return ONLY one of: yes, no"
RECORD = 'Extract the place. Give {"place": ...}'
TEXT = "Say it politely."

ROWS: list[tuple[str, str, str]] = [
    (LABEL, "the server is down", "yes"),
    (LABEL, "spring picnic", "no"),
    (LABEL, "the disk is full", "yes"),
    (LABEL, "all are welcome", "no "),
    (LABEL, "the server is on fire", "yes"),
    (LABEL, "Friday is free", "no"),
    (RECORD, "picnic in Oslo", '{"place": "Oslo"}'),
    (RECORD, "server in Bonn", '{"place": "Bonn"}'),
    (RECORD, "no idea", '{"place": null}'),
    (RECORD, "Rome, " + "of all the places in the world, " * 4, '{"place": "Rome"}'),
    (TEXT, "go away", "Please leave."),
    (TEXT, "give me that", "May I have it, please?"),
    (TEXT, "shut up", "Please be quiet."),
    (TEXT, "wait", "One moment, please."),
]


def write_jsonl(path: Path, rows: list[tuple[str, str, str]] = ROWS) -> Path:
    keys = ("spec", "input", "output")
    lines = [json.dumps(dict(zip(keys, row, strict=True))) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_csv(path: Path, category: bool = False) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["output", "spec", "input", *(["category"] if category else [])])
        for i, (spec, text, output) in enumerate(ROWS):
            writer.writerow([output, spec, text, *([f"c{i % 2}"] if category else [])])
    return path
