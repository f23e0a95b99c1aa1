"""Comparing results: a slowdown is flagged, noise is not; the paper's figures are answered."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from reports import EVERY, accuracy, compiling, near, speed, speed_row, versus
from reports import report as made_report

from paw_mlx.benchmarks.report import compare, report, reproduce, tables
from paw_mlx.benchmarks.speed import speed as measuring
from paw_mlx.cli import cli
from paw_mlx.errors import FormatError, NotFound, OptionError

PROGRAM = 1  # the place of the program in 4 bits among a speed report's rows


def changed(row: int = PROGRAM, **changes: Any) -> dict[str, Any]:
    made = speed()
    made["rows"][row] |= changes
    return made


def verdicts(after: dict[str, Any], threshold: float = 0.05) -> dict[str, str]:
    found = compare.compare(speed(), after, threshold)
    return {row["metric"]: row["verdict"] for row in found["rows"] if row["verdict"]}


def bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)])


@pytest.mark.parametrize("kind", compare.KEYS)
def test_nothing_changed_in_a_result_beside_itself(kind: str) -> None:
    found = compare.compare(EVERY[kind](), EVERY[kind](), 0.0)
    assert found["rows"]
    assert all(row["ratio"] in (1, None) and not row["verdict"] for row in found["rows"])
    assert (found["num_worse"], found["warnings"]) == (0, [])
    text = tables.as_text(compare.table(found))
    assert max(map(len, text.splitlines())) <= tables.WIDTH


@pytest.mark.parametrize(
    ("changes", "metric", "verdict"),
    [
        ({"decode_tok_s": near(330)}, "decode_tok_s", "worse"),
        ({"decode_tok_s": near(480)}, "decode_tok_s", "better"),
        ({"ttft_warm_s": near(0.01)}, "ttft_warm_s", "worse"),
        ({"ttft_warm_s": near(0.002)}, "ttft_warm_s", "better"),
        ({"peak_bytes": 10**9}, "peak_bytes", "worse"),
        ({"active_bytes": 10**8}, "active_bytes", "better"),
        ({"calls_s": {"1": near(40.1), "8": near(50)}}, "calls_s, 8 at once", "worse"),
    ],
)
def test_what_got_worse_or_better_is_told(changes: Any, metric: str, verdict: str) -> None:
    assert verdicts(changed(**changes)) == {metric: verdict}


def test_noise_is_no_change() -> None:
    # 10 % slower in the middle, and both runs went from 340 to 410 and beyond
    before, after = changed(decode_tok_s=near(401, 0.15)), changed(decode_tok_s=near(361, 0.15))
    found = compare.compare(before, after, 0.05)
    assert found["num_worse"] == 0
    # apart, but within the threshold
    before, after = changed(decode_tok_s=near(401, 0.01)), changed(decode_tok_s=near(385, 0.01))
    assert compare.compare(before, after, 0.05)["num_worse"] == 0
    assert compare.compare(before, after, 0.03)["num_worse"] == 1


def test_accuracies_differ_if_their_intervals_do() -> None:
    def with_program(share: float, reach: float) -> dict[str, Any]:
        made = accuracy()
        row = next(r for r in made["rows"] if r["method"] == "program" and r["group"] == "all")
        row |= {"accuracy": share, "low": share - reach, "high": share + reach}
        return made

    far = compare.compare(with_program(0.74, 0.03), with_program(0.60, 0.03), 0.05)
    assert [row["metric"] for row in far["rows"] if row["verdict"] == "worse"] == ["accuracy"]
    assert compare.compare(with_program(0.74, 0.08), with_program(0.60, 0.08), 0.05)[
        "num_worse"
    ] == (0)


def test_rows_meet_by_what_they_are_and_not_by_their_place() -> None:
    after = speed()
    after["rows"].reverse()
    after["rows"].append(speed_row("program", "qwen3-0.6b", 6, 300, 484e6))
    found = compare.compare(speed(), after, 0.0)
    assert {row["ratio"] for row in found["rows"]} == {1}
    assert found["warnings"] == ["Only after: program, qwen3-0.6b, 6 bits."]


def test_what_else_differs_is_said() -> None:
    after = speed(synthetic=True, settings={"rounds": 3, "seed": 0})
    after["machine"] |= {"chip": "Apple M5", "mlx": "0.33.0", "commit": "another"}
    after["conditions"]["start"] = {"power": "battery"}
    assert compare.compare(speed(), after, 0.05)["warnings"] == [
        "Synthetic weights after, real ones in the other result.",
        "Another chip: Apple M4 Max, then Apple M5.",
        "Another mlx: 0.32.4, then 0.33.0.",
        "Another rounds: 5, then 3.",
        "After: on battery.",
    ]


def test_what_changes_speed_most_is_said() -> None:
    before, after = speed(), speed()
    before["machine"] |= {"blas": "libmkl_rt.so.3", "wheel": "macosx_15_0_arm64"}
    after["machine"] |= {"matrix_units": True}
    before["conditions"]["start"] = {"low_power": True}  # as results had it before power modes
    hot = {"power": "battery", "power_mode": "high", "thermal": "CPU_Speed_Limit 62"}
    after["conditions"]["end"] |= hot
    assert compare.compare(before, after, 0.05)["warnings"] == [
        "Another wheel: macosx_15_0_arm64, then macosx_26_0_arm64.",
        "Another matrix units: None, then True.",
        "Another blas: libmkl_rt.so.3, then None.",
        "Before: in low power mode.",
        "After: on battery, in high power mode, thermal state CPU_Speed_Limit 62.",
    ]
    for name in ("wheel", "matrix_units", "blas"):  # which older cards may not tell
        del before["machine"][name]
    assert not any("Another" in line for line in compare.compare(before, after, 0)["warnings"])


def test_precision_recall_and_f1_change_in_points_and_need_no_interval() -> None:
    def alerts(**shares: float | None) -> dict[str, Any]:
        made = accuracy()
        for row in made["rows"][:2]:  # all rows, and a kind's
            row |= {"precision": 0.9, "recall": 0.8, "f1": 0.847} | shares
        return made

    found = compare.compare(alerts(), alerts(precision=None, recall=0.0, f1=0.0), 0.05)
    judged = {row["metric"]: row["verdict"] for row in found["rows"] if row["verdict"]}
    assert judged == {"recall": "worse", "f1": "worse"}
    assert found["num_worse"] == 2  # those of a group scatter
    text = " ".join(tables.as_text(compare.table(found)).split())
    assert "recall 80.0 % 0.0 % -80.0 points worse" in text
    assert "without an interval, the threshold alone decides" in text
    assert compare.compare(alerts(), alerts(recall=0.76, f1=0.82), 0.05)["num_worse"] == 0


def test_fewer_same_outputs_are_worse() -> None:
    after = versus()
    after["rows"][1]["same_outputs"] = "6/60"
    found = compare.compare(versus(), after, 0.05)
    (row,) = (row for row in found["rows"] if row["verdict"])
    assert (row["metric"], row["before"], row["after"]) == ("same_outputs", 0.95, 0.1)
    assert "same outputs" in tables.as_text(compare.table(found))


@pytest.mark.parametrize("gone", [None, {"skipped": "no room"}, {"error": "out of memory"}])
def test_what_is_no_longer_measured_is_worse(gone: dict[str, str] | None, tmp_path: Path) -> None:
    before, after = speed(), speed()
    if gone:
        after["rows"][PROGRAM] |= gone
    else:
        del after["rows"][PROGRAM]
    found = compare.compare(before, after, 0.05)
    assert (found["num_worse"], found["gone"]) == (1, ["program, qwen3-0.6b, 4 bits"])
    assert len(found["warnings"]) == 1
    assert "no longer measured, and count as worse: 1." in tables.as_text(compare.table(found))
    back = compare.compare(after, before, 0.05)
    assert (back["num_worse"], back["gone"]) == (0, [])
    paths = report.save(before, tmp_path), report.save(after, tmp_path)
    assert bench("compare", *paths, "--fail").exit_code == 1


def test_what_was_never_measured_is_not_gone() -> None:
    after = speed()
    del after["rows"][-1]  # skipped before, too
    assert compare.compare(speed(), after, 0.05)["num_worse"] == 0


def test_seconds_of_compiling_are_worse_once_they_double() -> None:
    def with_encoding(seconds: float) -> dict[str, Any]:
        made = compiling()
        made["rows"][1]["encode_s"] = seconds
        return made

    assert compare.compare(compiling(), with_encoding(5.9), 0.05)["num_worse"] == 0
    found = compare.compare(compiling(), with_encoding(30.0), 0.05)
    assert [row["metric"] for row in found["rows"] if row["verdict"]] == ["encode_s"]
    assert "once count as worse if they double" in tables.as_text(compare.table(found))


def test_rows_of_the_same_spec_stay_apart() -> None:
    before, after = compiling(), compiling()
    for made in (before, after):
        for row in made["rows"]:
            row["spec"] = "Sort this"
    after["rows"][1]["map_s"] = 9.0
    found = compare.compare(before, after, 0.05)
    assert [row["before"] for row in found["rows"] if row["metric"] == "pseudo_s"] == [20, 21, 22]
    assert [row["after"] for row in found["rows"] if row["verdict"]] == [9.0]


def test_two_kinds_are_not_compared() -> None:
    with pytest.raises(OptionError, match="one result is of speed, the other of accuracy"):
        compare.compare(speed(), accuracy(), 0.05)


def test_a_figure_of_zero_has_no_ratio() -> None:
    before, after = changed(active_bytes=0), changed(active_bytes=5)
    found = compare.compare(before, after, 0.05)
    assert [row["verdict"] for row in found["rows"] if row["ratio"] is None] == [None]


def test_what_was_measured_once_is_not_judged_but_bytes_are() -> None:
    once = {"decode_tok_s": report.stat([100.0]), "calls_s": {"1": 1.0, "8": 1.0}}
    once |= {"load_s": report.stat([99.0])}
    assert verdicts(changed(**once)) == {}
    text = tables.as_text(compare.table(compare.compare(speed(), changed(**once), 0.05)))
    assert "measured once are not judged" in text
    assert verdicts(changed(**once, peak_bytes=10**9)) == {"peak_bytes": "worse"}


def test_an_accuracy_changes_in_points() -> None:
    before, after = accuracy(), accuracy()
    before["rows"][0] |= {"accuracy": 0.0, "low": 0.0, "high": 0.02}
    after["rows"][0] |= {"accuracy": 0.967, "low": 0.93, "high": 0.985}
    found = compare.compare(before, after, 0.05)
    assert found["rows"][0]["ratio"] is None
    assert found["rows"][0]["verdict"] == "better"
    text = tables.as_text(compare.table(found))
    assert "+96.7 points  better" in text
    assert "intervals are compared as those of different rows" in " ".join(text.split())


def test_the_papers_table_is_not_compared() -> None:
    with pytest.raises(OptionError, match="reproduce are not compared"):
        compare.compare(EVERY["reproduce"](), EVERY["reproduce"](), 0.05)


@pytest.mark.parametrize("bits", [4, None])
def test_a_row_skipped_in_one_meets_the_one_measured(bits: int | None) -> None:
    before = made_report("speed", [speed_row("baseline", "Qwen3-32B-4bit", 4, 20, 18e9)])
    row = {"subject": "baseline", "engine": "mlx-lm", "bits": bits, "skipped": "no room"}
    after = made_report("speed", [row | {"model": "mlx-community/Qwen3-32B-4bit"}])
    name = "baseline, Qwen3-32B-4bit, 4 bits, no room"
    found = compare.compare(before, after, 0.05)
    assert (found["rows"], found["warnings"]) == ([], [f"Skipped after: {name}."])
    found = compare.compare(after, before, 0.05)
    assert (found["rows"], found["warnings"]) == ([], [f"Skipped before: {name}."])


def test_compare_on_the_command_line(tmp_path: Path) -> None:
    before = report.save(speed(), tmp_path)
    after = report.save(changed(decode_tok_s=near(330)), tmp_path)
    done = bench("compare", before, after)
    assert done.exit_code == 0
    assert "decode tok/s" in done.stdout
    assert "0.82×  worse" in done.stdout
    assert "1 of 52 figures are worse by more than 5 %" in done.stdout
    assert bench("compare", before, after, "--fail").exit_code == 1
    assert bench("compare", before, after, "--fail", "--threshold", "20%").exit_code == 0
    assert bench("compare", after, before, "--fail").exit_code == 0
    found = json.loads(bench("compare", before, after, "--json").stdout)
    assert found["num_worse"] == 1
    assert bench("compare", before, after, "--threshold", "much").exit_code == 2
    done = bench("compare", before, after, "--threshold", "0.05")
    assert done.exit_code == 2
    assert "say 5% or 0.05%" in done.stderr
    assert bench("compare", before, after, "--threshold", "0.05%").exit_code == 0
    done = bench("compare", before, tmp_path / "none.json", "--json")
    assert done.exit_code == 1


# --- the paper's table ---------------------------------------------------------------------


def here(*reports: dict[str, Any]) -> dict[str, float | None]:
    return {row["what"]: row["here"] for row in reproduce.claims(reports)}


def fuzzy(**changes: Any) -> dict[str, Any]:
    known = {"source": "fuzzybench/test_clean", "interpreter": "qwen3-0.6b, bfloat16, 4-bit g64"}
    return accuracy(settings=known | {"baseline": "Qwen3-32B-4bit"} | changes)


def test_without_results_every_row_says_what_measures_it() -> None:
    rows = reproduce.claims([])
    assert len(rows) == 9
    assert all(row["here"] is None and row["ratio"] is None for row in rows)
    notes = {row["what"]: row["note"] for row in rows}
    assert all("`paw-mlx bench" in note for note in notes.values())
    assert "--baseline-model Qwen/Qwen3-32B" in notes["memory, 32B, 16 bits"]
    assert notes["cold load"].startswith("nothing measures it")
    assert {row["paper"] for row in rows} >= {73.78, 9.84, 68.70, 52.10, 31.6, 0.48, 1.2, 60.0}


def test_speed_answers_speed_and_memory() -> None:
    found = here(speed())
    assert found["decode, program"] == 401
    assert found["cold load"] is None  # files were in memory
    assert found["memory, program, 16 bits"] == pytest.approx(1.05 * 1.215)
    assert found["memory, 32B, 16 bits"] is None  # skipped there; 4 bits are not what is meant
    assert found["memory, 32B : program"] == pytest.approx(18.43e9 / 358.1e6)
    (row,) = [r for r in reproduce.claims([speed()]) if r["what"] == "decode, program"]
    assert row["ratio"] == pytest.approx(401 / 31.6)
    assert row["note"] == "program, qwen3-0.6b, 4 bits; Apple M4 Max, 2026-11-21"


def test_memory_is_compared_in_the_same_bits() -> None:
    rows = [
        speed_row("program", "qwen3-0.6b", 4, 400, 3e8),
        speed_row("program", "qwen3-0.6b", 8, 200, 6e8),
        speed_row("baseline", "qwen3-32b", 8, 10, 36e9),
    ]
    assert here(made_report("speed", rows))["memory, 32B : program"] == pytest.approx(60)
    assert here(made_report("speed", rows[::2]))["memory, 32B : program"] is None
    for row in rows:
        row["bits"] = None  # not known, which is not alike
    assert here(made_report("speed", rows))["memory, 32B : program"] is None


def test_fuzzybench_on_the_papers_base_answers_accuracy() -> None:
    found = here(fuzzy())
    assert found["accuracy, program"] == 74
    assert found["accuracy, 0.6B prompted"] == 10
    assert found["accuracy, 32B prompted"] == 69
    assert found["accuracy, one fixed LoRA"] == 52


@pytest.mark.parametrize(
    "model", ["Qwen3-8B-4bit", "QwQ-32B-4bit", "Qwen3-32B-Base", "Distilled-Qwen3-32B", None]
)
def test_the_large_model_has_to_be_qwen3_32b(model: str | None) -> None:
    assert here(fuzzy(baseline=model))["accuracy, 32B prompted"] is None
    row = speed_row("baseline", str(model), 16, 10, 64e9)
    assert here(made_report("speed", [row]))["memory, 32B, 16 bits"] is None


@pytest.mark.parametrize("model", ["qwen3-32b", "Qwen/Qwen3-32B", "/models/Qwen3-32B-MLX-bf16"])
def test_the_large_model_goes_by_many_names(model: str) -> None:
    row = speed_row("baseline", model, 16, 10, 64e9)
    assert here(made_report("speed", [row]))["memory, 32B, 16 bits"] == pytest.approx(67.2)


def test_a_quick_run_answers_only_where_no_full_one_does() -> None:
    full, quick = (asdict(plan) for plan in (measuring.SpeedPlan(), measuring.QUICK))
    old = speed(date="2026-10-01T00:00:00Z", settings=full)
    new = speed(date="2026-11-01T00:00:00Z", settings=quick)
    new["rows"][PROGRAM] |= {"decode_tok_s": near(500)}
    assert here(old, new)["decode, program"] == 401
    assert "quick" not in str(reproduce.claims([old, new]))
    (row,) = (r for r in reproduce.claims([new]) if r["what"] == "decode, program")
    assert row["here"] == 500
    assert row["note"].startswith("program, qwen3-0.6b, 4 bits, quick (rounds: 1, tokens: 8); ")
    cut = speed(date="2026-11-02T00:00:00Z", settings=full | {"partial": True})
    assert reproduce.claims([old, cut]) == reproduce.claims([old])


def test_a_sample_says_how_much_of_the_data_it_was() -> None:
    made = fuzzy(functions=100, functions_in_all=29345, inputs=None)
    (row,) = [r for r in reproduce.claims([made]) if r["what"] == "accuracy, program"]
    sample = "100 of 29,345 functions, 95 % interval 68.0–79.0"
    assert row["note"].startswith(f"program, 200 rows of fuzzybench/test_clean, {sample}; ")
    every = fuzzy(functions=100, functions_in_all=100, inputs=None)
    assert "interval" not in str(reproduce.claims([every]))
    assert "interval" in str(reproduce.claims([fuzzy(inputs=2)]))


def test_sixteen_bits_are_not_thirty_two() -> None:
    wide = speed_row("program", "qwen3-0.6b", 16, 20, 2.4e9) | {"form": "float32"}
    assert here(made_report("speed", [wide]))["memory, program, 16 bits"] is None


@pytest.mark.parametrize(
    "other",
    [
        fuzzy(source="clinc"),
        fuzzy(source="my-fuzzy-rows.jsonl"),
        fuzzy(source="fuzzybench.csv"),
        fuzzy(interpreter="smollm2-135m"),
        fuzzy(interpreter="llama-0.6b"),
        made_report("speed", [speed_row("program", "smollm2-135m", 4, 90, 9e7)]),
        made_report("speed", [speed_row("base", "qwen3-0.6b", 4, 90, 9e7)]),
    ],
)
def test_other_data_another_base_answer_nothing(other: dict[str, Any]) -> None:
    assert set(here(other).values()) == {None}


def test_the_newest_result_that_has_it_counts_and_synthetic_ones_say_so() -> None:
    old, new = speed(date="2026-10-01T00:00:00Z"), speed(synthetic=True)
    new["rows"][PROGRAM] |= {"decode_tok_s": near(500)}
    new["rows"].pop(PROGRAM + 1)
    rows = {row["what"]: row for row in reproduce.claims([old, new])}
    assert rows["decode, program"]["here"] == 500
    assert "synthetic weights" in rows["decode, program"]["note"]
    assert rows["memory, program, 16 bits"]["here"] == pytest.approx(1.05 * 1.215)
    assert "2026-10-01" in rows["memory, program, 16 bits"]["note"]
    assert "synthetic" not in rows["memory, program, 16 bits"]["note"]


def test_results_are_gathered_from_files_and_folders(tmp_path: Path) -> None:
    path = report.save(speed(), tmp_path / "a")
    (tmp_path / "a" / "other.json").write_text("{}")
    assert reproduce.gather([tmp_path / "a", path]) == [speed(), speed()]
    with pytest.raises(FormatError):
        reproduce.gather([tmp_path / "a" / "other.json"])
    with pytest.raises(NotFound):
        reproduce.gather([tmp_path / "none.json"])


def test_results_are_looked_for_where_the_user_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert reproduce.places() == [report.RESULTS]
    report.save(speed(date="2036-11-21T15:04:05Z"), tmp_path / "results")
    done = bench("reproduce", "--json")
    (row,) = (r for r in json.loads(done.stdout)["rows"] if r["what"] == "decode, program")
    assert row["here"] == 401
    assert f"results in {report.RESULTS}, results\n" in done.stderr
    done = bench("reproduce", report.RESULTS)
    assert done.stderr.endswith(f"results in {report.RESULTS}\n")  # what is given is all
    monkeypatch.chdir(report.RESULTS.parent)
    assert reproduce.places() == [report.RESULTS]


def test_reproduce_on_the_command_line(tmp_path: Path) -> None:
    report.save(speed(), tmp_path)
    report.save(fuzzy(), tmp_path)
    done = bench("reproduce", tmp_path)
    assert done.exit_code == 0
    assert "73.78" in done.stdout
    assert "12.7×" in done.stdout
    report.save(speed(synthetic=True, date="2026-11-22T00:00:00Z"), tmp_path)
    found = json.loads(bench("reproduce", tmp_path, "--json").stdout)
    assert not found["synthetic"]  # some rows are, and say so
    assert found["kind"] == "reproduce"
    assert len(found["rows"]) == 9
    assert bench("reproduce", tmp_path / "none.json").exit_code == 1
