"""`paw-mlx rank`: rows in the order of a program's labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from row_files import TEXTS, objects, table
from shell import Paw, inside

from paw_mlx import Function, Interpreter, Labels, load

LABELS = ["down", "full", "spring"]


@pytest.fixture(scope="module")
def scores(folder: Path) -> dict[str, float]:
    """What `fn.decide` says of each text."""
    with Interpreter.load(str(folder / "base")) as interpreter:
        program = load(folder / "one.paw").typed(Labels(tuple(LABELS)))
        fn = Function(interpreter, program)
        return {text: fn.decide(text).score for text in [*TEXTS, "世界"]}


@pytest.fixture
def rank(folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> Paw:
    call = inside(monkeypatch, capfdbinary)
    options = ["--labels", ",".join(LABELS), "--interpreter", folder / "base"]
    return lambda *words: call("rank", folder / "one.paw", *options, *words)


def best_first(scores: dict[str, float], texts: list[str]) -> list[str]:
    ranked = sorted(texts, key=lambda text: -scores[text])
    assert ranked != texts
    assert ranked != texts[::-1]
    return ranked


def test_lines_come_with_their_score_before_them(
    rank: Paw, scores: dict[str, float], tmp_path: Path
) -> None:
    texts = [*TEXTS[:12], TEXTS[3]]
    (tmp_path / "in.txt").write_text("\n".join(texts))
    done = rank(tmp_path / "in.txt")
    best = best_first(scores, texts)
    assert done.stdout.decode() == "".join(f"{scores[text]:.4f}\t{text}\n" for text in best)
    assert done.stderr.startswith("13 rows in ")
    assert "1 repeated" in done.stderr
    assert done.returncode == 0


def test_rows_keep_their_fields_and_what_is_equal_its_order(
    rank: Paw, scores: dict[str, float], tmp_path: Path
) -> None:
    texts = [text for text in TEXTS[:10] for _ in range(2)]
    lines = [f'{{"id":{n}, "text": "{text}"}}\n' for n, text in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    found = objects(rank(tmp_path / "in.jsonl").stdout)
    assert [row["text"] for row in found] == best_first(scores, texts)
    assert all(row["score"] == pytest.approx(scores[row["text"]], abs=1e-4) for row in found)
    pairs = zip(found[::2], found[1::2], strict=True)
    assert all(a["id"] + 1 == b["id"] for a, b in pairs)


def test_the_best_alone_to_a_csv(rank: Paw, scores: dict[str, float], tmp_path: Path) -> None:
    texts = TEXTS[:20]
    (tmp_path / "in.csv").write_text(
        "id;text\r\n" + "".join(f"{n};{t}\r\n" for n, t in enumerate(texts))
    )
    done = rank(
        tmp_path / "in.csv", "--top", 3, "-o", tmp_path / "out.csv", "--output-field", "fit"
    )
    assert done.stdout == b""
    found = table((tmp_path / "out.csv").read_bytes(), delimiter=";")
    assert [row["text"] for row in found] == best_first(scores, texts)[:3]
    assert [float(row["fit"]) for row in found] == sorted(float(r["fit"]) for r in found)[::-1]
    assert {*found[0]} == {"id", "text", "fit", "error"}


def test_a_row_that_fails_comes_last_with_its_error(
    rank: Paw, scores: dict[str, float], tmp_path: Path
) -> None:
    rows = [
        '{"text": "x"',
        f'{{"text": "{"0 " * 600}"}}',
        *(f'{{"text": "{t}"}}' for t in TEXTS[:4]),
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    done = rank(tmp_path / "in.jsonl", "--field", "text")
    assert done.returncode == 1
    *good, first, second = objects(done.stdout)
    assert [row["text"] for row in good] == best_first(scores, TEXTS[:4])
    assert first["error"]["code"] == "FormatError"
    assert second["error"]["code"] == "InputTooLong"
    assert done.stderr.endswith("2 of 6 rows failed\n")
    done = rank(tmp_path / "in.jsonl", "--field", "text", "--top", 2)
    assert [row["text"] for row in objects(done.stdout)] == best_first(scores, TEXTS[:4])[:2]
    assert "row 2: " in done.stderr
    assert done.returncode == 1


def test_json_makes_objects_of_lines(rank: Paw, scores: dict[str, float], tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n".join(TEXTS[:3]) + "\n\xff\n", encoding="latin-1")
    done = rank(tmp_path / "in.txt", "--json")
    *good, bad = objects(done.stdout)
    assert [row["input"] for row in good] == best_first(scores, TEXTS[:3])
    assert {*good[0]} == {"input", "score"}
    assert bad["error"]["code"] == "FormatError"
    assert objects(done.stderr.encode())[-1]["num_failed"] == 1


def test_what_cannot_be_ranked_is_said(rank: Paw, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "score": 1}\n')
    done = rank(tmp_path / "in.jsonl", "--field", "text")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "has a field 'score' already" in done.stderr
    assert "--output-field" in done.stderr
    (tmp_path / "in.txt").write_text("a\n")
    done = rank(tmp_path / "in.txt", "--labels", "a")
    assert "labels are 2 to" in done.stderr


def test_a_program_without_labels_ranks_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    call = inside(monkeypatch, capfdbinary)
    done = call("rank", folder / "one.paw", tmp_path / "in.txt", "--interpreter", folder / "base")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "a probability is a label's, and the program's output is text" in done.stderr
    assert "--labels" in done.stderr
