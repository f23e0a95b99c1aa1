"""Diff shows what changed between two programs, and nothing where nothing did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from click.testing import CliRunner, Result

from paw_mlx import formats, store
from paw_mlx.adapter import Adapter, Lora, Matrix, Site
from paw_mlx.cli import cli
from paw_mlx.convert.diff import Diff, diff
from paw_mlx.convert.program import Artifact
from paw_mlx.profiles import PROFILES
from paw_mlx.program import Program, Template

BASE = tiny.profile("qwen3")


def program(seed: int = 0, **changes: Any) -> Program:
    made = Program(
        Template("Sort the mail.\n\n[INPUT]\n", "\n[END_INPUT]"),
        tiny.adapter(BASE, seed),
        BASE.name,
        "Sort the mail.",
        "Task: sort the mail.\nSay urgent or not.",
        {"compiler": {"name": "by-hand", "seed": 1}, "created_at": "2026-07-01", "tries": [1, 2]},
    )
    return replace(made, **changes)


def changed(one: Program, other: Program) -> Diff:
    assert one.adapter
    assert other.adapter
    return diff(*(Artifact("paw", p.adapter, p.interpreter, p) for p in (one, other)))


def with_adapter(adapter: Adapter) -> Program:
    return program(adapter=adapter)


def paw(*words: object) -> Result:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def save(program: Program, path: Path) -> Path:
    formats.save(program, path, "f32", profile=BASE)
    return path


def test_equal_programs_have_no_difference(tmp_path):
    found = changed(program(), program())
    assert not found.texts
    assert not found.meta
    assert found.adapter.difference == 0
    assert found.adapter.a > 0
    path = save(program(), tmp_path / "a.paw")
    done = paw("diff", path, path)
    assert (done.exit_code, done.stdout) == (
        0,
        "the adapter is the same, and so are texts and meta\n",
    )


def test_texts_are_told_line_by_line():
    other = program(
        spec="Sort the mail!",
        pseudo_program="Task: sort the mail.\nSay urgent or not.\nSay nothing else.",
        template=Template("Sort the mail.\n\n[INPUT]\n", "\n[END_INPUT]\n"),
    )
    texts = changed(program(), other).texts
    assert list(texts) == ["spec", "pseudo_program", "template"]
    assert texts["spec"][1:] == ["-Sort the mail.", "+Sort the mail!"]
    assert texts["pseudo_program"][-1] == "+Say nothing else."
    assert " Task: sort the mail." in texts["pseudo_program"]
    assert texts["template"][-2:] == [" [END_INPUT]", "+"]
    assert changed(program(spec=""), program()).texts["spec"][1:] == ["+Sort the mail."]


def test_meta_is_told_key_by_key():
    meta = {
        "compiler": {"name": "by-hand", "seed": 2},
        "tries": [1, 2, 3],
        "notes": {},
        "spec": "what the text says already",
    }
    found = changed(program(), program(meta=meta)).meta
    assert found.added == {"notes": {}}
    assert found.removed == {"created_at": "2026-07-01"}
    assert found.changed == {"compiler.seed": (1, 2), "tries": ([1, 2], [1, 2, 3])}


def test_norms_are_those_of_the_deltas():
    one, other = tiny.adapter(BASE, 0), tiny.adapter(BASE, 1, rank=7)
    found = changed(with_adapter(one), with_adapter(other))
    for layer, moved in found.layers.items():
        expected = norms(one, other, [s for s in BASE.sites() if s.layer == layer])
        assert (moved.a, moved.b, moved.difference) == pytest.approx(expected, rel=1e-5)
        assert moved.relative == pytest.approx(expected[2] / expected[0], rel=1e-5)
    for module, moved in found.modules.items():
        expected = norms(one, other, [s for s in BASE.sites() if s.module == module])
        assert (moved.a, moved.b, moved.difference) == pytest.approx(expected, rel=1e-5)
    expected = norms(one, other, list(BASE.sites()))
    assert found.adapter[:3] == pytest.approx(expected, rel=1e-5)


def norms(one: Adapter, other: Adapter, sites: list[Site]) -> list[float]:
    deltas = [(one.delta(s), other.delta(s), other.delta(s) - one.delta(s)) for s in sites]
    return [
        float(np.sqrt(sum((d.astype(float) ** 2).sum() for d in c)))
        for c in zip(*deltas, strict=True)
    ]


def test_a_change_far_below_float32_of_the_whole_is_still_measured():
    one = tiny.adapter(BASE)
    site = Site(1, "q_proj")
    lora = one.sites[site]
    B = lora.B.dense()
    B[0, 0] = np.nextafter(B[0, 0], 9, dtype=np.float32)
    other = Adapter({**one.sites, site: Lora(lora.A, Matrix.from_array(B), lora.alpha)})
    found = changed(with_adapter(one), with_adapter(other))
    step = lora.scale * float(B[0, 0] - lora.B.dense()[0, 0]) * np.linalg.norm(lora.A.dense()[0])
    assert [layer for layer, moved in found.layers.items() if moved.difference] == [1]
    assert found.layers[1].difference == pytest.approx(step, rel=1e-3)


def test_sites_in_one_alone_come_and_go_whole():
    one = tiny.adapter(BASE)
    fewer = Adapter({s: o for s, o in one.sites.items() if s.layer != 2})
    gone, come = (
        changed(with_adapter(a), with_adapter(b)) for a, b in ((one, fewer), (fewer, one))
    )
    assert (len(gone.only_a), gone.only_b) == (7, ())
    assert (come.only_a, come.only_b) == ((), gone.only_a)
    assert gone.layers[2].difference == gone.layers[2].a
    assert (gone.layers[2].b, gone.layers[2].relative) == (0, 1)
    assert come.layers[2].relative is None
    assert gone.layers[1].difference == 0


def test_a_site_of_another_shape_is_another_site():
    one = tiny.adapter(BASE)
    site = Site(0, "k_proj")
    other = Adapter({**one.sites, site: one.sites[Site(0, "gate_proj")]})
    found = changed(with_adapter(one), with_adapter(other))
    assert (found.only_a, found.only_b) == ((site,), (site,))
    assert found.sites[site].difference == pytest.approx(np.hypot(*found.sites[site][:2]))


def test_the_command_shows_it_and_exits_with_zero(tmp_path):
    meta = {"created_at": "2026-07-02", "long": "x" * 500}
    a = save(program(), tmp_path / "a.paw")
    b = save(program(seed=1, spec="Sort the post.", meta=meta), tmp_path / "b.paw")
    done = paw("diff", a, b)
    assert (done.exit_code, done.stderr) == (0, "")
    for line in (
        "  -Sort the mail.",
        "  +Sort the post.",
        "  - tries: [1, 2]",
        '  ~ created_at: "2026-07-01" → "2026-07-02"',
    ):
        assert line in done.stdout.splitlines()
    lines = done.stdout.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("layer"))) :]
    assert [row.split()[0] for row in table[:4]] == ["layer", "0", "1", "2"]
    assert "x" * 100 not in done.stdout
    assert lines[-1].startswith("the adapter moved by ")
    record = json.loads(paw("diff", a, b, "--json").stdout, parse_constant=pytest.fail)
    assert record["meta"]["added"]["long"] == "x" * 500
    assert set(record["layers"]) == {"0", "1", "2"}
    assert record["adapter"]["relative"] > 1


def test_texts_of_a_file_cannot_command_a_terminal(tmp_path):
    evil = "\x1b[2J\x9b31m\u202eevil"
    a = save(program(), tmp_path / "a.paw")
    meta = {evil: evil, "created_at": evil}
    b = save(program(spec=evil, pseudo_program=evil, meta=meta), tmp_path / "b.paw")
    done = paw("diff", a, b)
    assert done.exit_code == 0
    assert all(c.isprintable() or c == "\n" for c in done.stdout)
    assert "\\x1b[2J" in done.stdout


def test_versions_in_the_store_are_compared_by_name(tmp_path):
    known = PROFILES["smollm2-135m"]
    for seed, spec in enumerate(("First.", "Second.")):
        adapter = Adapter({Site(0, "k_proj"): lora_of(known.shapes["k_proj"], seed)})
        made = program(spec=spec, adapter=adapter, interpreter=known.repo)
        formats.save(made, tmp_path / "p.paw", "f32")
        store.add(tmp_path / "p.paw", "triage")
    done = paw("diff", "triage@v1", "triage")
    assert done.exit_code == 0, done.output
    assert "  -First." in done.stdout.splitlines()
    assert "  +Second." in done.stdout.splitlines()
    missing = paw("diff", "triage@v1", "triage@v9")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no version v9" in missing.stderr


def lora_of(shape: tuple[int, int], seed: int) -> Lora:
    chance = np.random.default_rng(seed)
    A, B = (chance.normal(0, 1, s).astype(np.float32) for s in ((4, shape[0]), (shape[1], 4)))
    return Lora(Matrix.from_array(A), Matrix.from_array(B), 8.0)


def test_bare_adapters_are_compared_without_texts(tmp_path):
    for seed in (0, 1):
        formats.save_adapter(tiny.adapter(BASE, seed), tmp_path / f"{seed}", "peft", BASE)
    done = paw("diff", tmp_path / "0", tmp_path / "1")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("layer")
