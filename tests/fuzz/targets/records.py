"""What lies about a program, a job or a training: small records, and checkpoints of arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx

from paw_mlx import jobs
from paw_mlx.cases import Case
from paw_mlx.formats.checkpoint import Checkpoint
from paw_mlx.hub.repo import BASE
from paw_mlx.interpreter.engine.calibration import _read_kept
from paw_mlx.interpreter.engine.prefixes import _checksum, _read
from paw_mlx.jobs.job import Job, folder_of
from paw_mlx.program_names import current_in, versions_in
from paw_mlx.settings import cache_dir
from paw_mlx.teaching.pairs_file import PairsFile
from paw_mlx.training.checkpoint import FILE, Checkpoints
from paw_mlx.training.replay import Begun

from ..json_values import json_mutation, lines_mutation
from ..structures import members_of, packed, safetensors_mutation, zip_of
from ..target import Target

_JOB = "20260701-120000-abcd"
_TERMS = {"spec": "x", "teacher": "y"}


def records(sandbox: Path) -> Target:
    """One record an input: the member of a ZIP, whose name says what it is."""
    readers = _readers(sandbox)

    def read(data: bytes) -> None:
        for name, held in members_of(data).items():
            if name in readers:
                readers[name](held)

    seeds = [zip_of({name: held}) for name, held in _seeds().items()]
    by_end = {".json": json_mutation, ".jsonl": lines_mutation}
    return Target("records", seeds, read, packed(by_end))


def _readers(sandbox: Path) -> dict[str, Callable[[bytes], object]]:
    place = sandbox / "records"
    place.mkdir()

    def written(path: Path, then: Callable[[], object]) -> Callable[[bytes], object]:
        path.parent.mkdir(parents=True, exist_ok=True)

        def read(data: bytes) -> None:
            path.write_bytes(data)
            then()

        return read

    pairs, program = place / "pairs.jsonl", place / "program"
    program.mkdir()
    (program / "v3.paw").write_bytes(b"")
    (place / "model.safetensors").write_bytes(b"")

    def open_pairs() -> None:
        with PairsFile.open(pairs, _TERMS) as found:
            found.save()

    return {
        "job.json": written(folder_of(_JOB) / "job.json", lambda: jobs.read(_JOB)),
        "begun.json": written(place / "begun.json", lambda: Begun(1, [], []).keep(place)),
        "drafts.json": written(cache_dir() / "drafts.json", _read_kept),
        "meta.json": written(place / "meta.json", lambda: Checkpoint.read(place)),
        "model.safetensors.index.json": written(
            place / "model.safetensors.index.json", lambda: BASE.lacking(place)
        ),
        ".current": written(
            program / ".current", lambda: current_in(program, versions_in(program))
        ),
        "pairs.jsonl": written(pairs, open_pairs),
        "pairs.jsonl.state.json": written(place / "pairs.jsonl.state.json", open_pairs),
    }


def _seeds() -> dict[str, bytes]:
    job = Job(_JOB, ("tune", "x"), "/tmp", 1.5, "failed", 3, "b", 2.5, 1)
    case = Case("a", "b", 1, "g", 0.5)
    pair = json.dumps({"input": "a", "output": "b"}).encode() + b"\n"
    state = {
        "terms": _TERMS,
        "rounds": 1,
        "lines": 2,
        "questions": 3,
        "dropped": {"x": 1},
        "topics": ["a"],
    }
    meta = {"interpreter_model": "gpt2", "compiler_prompt_style": "spec", "lora_rank": 4}
    meta |= {"lora_alpha": 8, "lora_num_bases": 2, "prefix_steps": 0, "encoder_model": "x"}
    values = {
        "job.json": asdict(job),
        "begun.json": {"version": 2, "cases": [asdict(case)], "pairs": [asdict(case)]},
        "drafts.json": {"cpu, mlx 1": 3},
        "meta.json": meta | {"encoder_rank": 0, "paw_mlx": {"stamp": "x"}},
        "model.safetensors.index.json": {"weight_map": {"a.weight": "model.safetensors"}},
        "pairs.jsonl.state.json": state,
    }
    made = {name: json.dumps(value).encode() for name, value in values.items()}
    return made | {".current": b"v3\n", "pairs.jsonl": 3 * pair}


def checkpoint(sandbox: Path) -> Target:
    """A training's arrays, and a prefix's on disk: MLX's own reader opens them."""
    trees = [{"a": mx.zeros((2, 3)), "b": [mx.ones((4,), mx.int32)]}]
    kept, path = Checkpoints(sandbox, "terms"), sandbox / "prefix.safetensors"

    def read(data: bytes) -> None:
        (sandbox / FILE).write_bytes(data)
        kept.load(trees)
        path.write_bytes(data)
        with suppress(ValueError, RuntimeError):  # as its caller has it
            _read(path, "key")

    kept.save(trees, {"step": 3})
    layers = {"0.k": mx.zeros((1, 2, 3, 4)), "0.v": mx.ones((1, 2, 3, 4))}
    told = {"key": "key", "checksum": _checksum("key", layers)}
    mx.save_safetensors(str(path), layers, told)
    seeds = [(sandbox / FILE).read_bytes(), path.read_bytes()]
    return Target("checkpoint", seeds, read, safetensors_mutation)
