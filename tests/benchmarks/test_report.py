"""Reports: read as written, shown whole on a page, drawn the same twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from reports import CONDITION, EVERY, METHODS, accuracy_row, near, quality, speed, speed_row
from reports import report as made_report

from paw_mlx.benchmarks.report import __main__ as pages
from paw_mlx.benchmarks.report import figures, headings, plots, report, sections, tables
from paw_mlx.benchmarks.report.tables import Column, Table
from paw_mlx.cli import bench, cli
from paw_mlx.errors import DiskError, FormatError, NotFound, PawError

KINDS = sorted(EVERY)


def rewritten(text: str, **changes: Any) -> str:
    return json.dumps(json.loads(text) | changes)


# --- what a report is ----------------------------------------------------------------------


def test_a_stat_is_the_middle_and_the_ends() -> None:
    found = report.stat([3.0, 1.0, 2.00004, 10.0])
    assert found.pop("samples") == [3, 1, 2, 10]
    assert found == {"median": 2.50002, "min": 1, "max": 10, "num": 4}
    with pytest.raises(ValueError):
        report.stat([])


def test_a_report_says_where_and_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--program", "/home/me/p.paw", "a b", "--interpreter=/home/me/base", "--bits=4"]
    monkeypatch.setattr(sys, "argv", ["x", "bench", "speed", *given])
    made = report.make("speed", [{"subject": "base"}], {}, synthetic=True, start=CONDITION)
    shown = "--program p.paw 'a b' --interpreter=base --bits=4"
    assert made["command"] == f"paw-mlx bench speed {shown}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["date"])
    assert made["machine"]["mlx"]
    assert made["conditions"]["start"] == CONDITION
    assert made["conditions"]["end"].keys() >= {"power", "load"}
    with pytest.raises(ValueError, match="no kind"):
        report.make("sped", [], {}, synthetic=False, start={})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_read_back(kind: str, tmp_path: Path) -> None:
    made = EVERY[kind]()
    path = report.save(made, tmp_path / "new")
    assert path.name == f"apple-m4-max-2026-11-21-{kind}.json"
    assert report.load(path) == made


def test_saving_never_overwrites_and_leaves_no_half_file(tmp_path: Path) -> None:
    names = [report.save(speed(), tmp_path).name for _ in range(3)]
    stem = "apple-m4-max-2026-11-21-speed"
    assert names == [f"{stem}.json", f"{stem}-2.json", f"{stem}-3.json"]
    with pytest.raises(TypeError):
        report.save(speed(settings={"what": object()}), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        report.save(speed(), tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "file"])


@pytest.mark.parametrize(
    ("chip", "slug"),
    [
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "intel-xeon"),
        ("../../etc", "etc"),
        (None, "an-unknown-chip"),
    ],
)
def test_a_file_is_named_after_any_chip(chip: str | None, slug: str, tmp_path: Path) -> None:
    made = speed()
    made["machine"] |= {"chip": chip, "gpu": None}
    assert report.save(made, tmp_path).name == f"{slug}-2026-11-21-speed.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "no schema"),
        ('{"schema": 1}', "no kind"),
        ('{"schema": true, "kind": "speed"}', "no usable date"),
        (rewritten(json.dumps(speed()), schema=2), "schema 2, and this version reads up to 1"),
        (rewritten(json.dumps(speed()), kind="sped"), "no kind"),
        (rewritten(json.dumps(speed()), rows=[1]), "no usable rows"),
        (rewritten(json.dumps(speed()), machine=[]), "no usable machine"),
    ],
)
def test_what_is_no_report_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(FormatError, match=message):
        report.load(tmp_path / "r.json")


def test_a_report_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        report.load(tmp_path / "none.json")


# --- tables --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_text_fits_the_page_and_says_what_and_where(kind: str) -> None:
    text = report.terminal(EVERY[kind]())
    assert max(map(len, text.splitlines())) <= tables.WIDTH
    assert not any(line != line.rstrip() for line in text.splitlines())
    for word in ("2026-11-21", "64 GiB", "mlx 0.32.4", "0123456789", f"bench {kind}"):
        assert word in text


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_tables_have_a_cell_under_every_head(kind: str) -> None:
    page = report.markdown(EVERY[kind]())
    blocks = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert blocks
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block}
        assert len(counts) == 1
        assert re.fullmatch(r"\|( :?-+:? \|)+", block[1])
    assert page.startswith("# ")
    assert page.count("\n# ") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_markdown_show_the_same(kind: str) -> None:
    """Every cell of the one is in the other: both come from one description."""
    text, page = report.terminal(EVERY[kind]()), report.markdown(EVERY[kind]())
    for table in sections.tables(EVERY[kind]()):
        for _, cells in table.cells():
            for cell in cells:
                assert cell[:39] in text
                assert cell.replace("|", "\\|") in page


def test_speed_shows_ceilings_ratios_and_what_was_skipped() -> None:
    text = report.terminal(speed())
    assert re.search(r"program, qwen3-0.6b, 4 bits +8,020 +401 +393–409 +1,525 +26", text)
    assert re.search(r"qwen3-32b, 4 bits +17.3× +17.3× +17.3× +17.3× +1/51.5 +1/51.5", text)
    assert "16 bits: skipped, it needs 67.6 GB, and 55.0 GB are to be had" in text
    assert "Synthetic" not in text
    assert "Synthetic: randomly initialised" in report.terminal(speed(synthetic=True))


def test_quality_shows_each_set_with_gains_and_balance() -> None:
    text = report.terminal(quality())
    assert "Unseen functions of trained kinds" in text
    assert "Test functions, by family" in text
    assert re.search(r"compiled +40 +480 +55.0 +49.0–60.0 +61.5 +\+15.0 \(-1.0 to 30.0\)", text)
    assert re.search(r"json \| edit +180 +10 \(4–15\) +40 \(34–45\) +55 \(49–60\)", text)


@pytest.mark.parametrize(("ceiling", "shown"), [(None, None), ([410.0, 546.0], "410–546")])
def test_an_uncertain_ceiling_is_a_range_or_nothing(ceiling: Any, shown: str | None) -> None:
    made = speed()
    for row in made["rows"]:
        row["ceiling_tok_s"] = ceiling
    text = report.terminal(made)
    assert "reached" not in text
    assert (shown in text) if shown else ("No ceiling" in text and "tok/s  ceiling" not in text)


def test_bits_are_paired_with_bits_or_with_what_there_is() -> None:
    made = speed()
    made["rows"] = [speed_row("program", "q", 4, 400, 3e8), speed_row("baseline", "b", 8, 20, 3e10)]
    ratios = next(t for t in sections.tables(made) if t.title == "Program : baseline")
    assert len(ratios.rows) == 1
    assert "Not all are in the same number of bits." in report.terminal(made)
    assert "takes 1/" not in words(drawn(made)["memory"])
    made["rows"].append(speed_row("program", "q", 8, 200, 6e8))
    (pair,) = next(t for t in sections.tables(made) if t.title == "Program : baseline").rows
    assert pair["program"]["bits"] == 8
    assert "Not all" not in report.terminal(made)
    assert "in 8 bits, the program takes 1/50" in words(drawn(made)["memory"])
    for row in made["rows"]:
        row["bits"] = None  # not known, which is not alike
    assert "Not all are in the same number of bits." in report.terminal(made)
    assert "takes 1/" not in words(drawn(made)["memory"])


def test_calls_per_second_are_stats_or_numbers() -> None:
    made = speed()
    found = report.terminal(made), drawn(made)["calls"]
    for row in made["rows"]:
        if "calls_s" in row:
            row["calls_s"] = {num: each["median"] for num, each in row["calls_s"].items()}
    assert (report.terminal(made), drawn(made)["calls"]) == found
    assert re.search(r"qwen3-0.6b, 16 bits .* 19.0 +63.3 +127", found[0])


def test_numbers_of_calls_that_were_left_out_say_why() -> None:
    made = speed()
    made["rows"][3]["left_out"] = "32 at once need 60.0 GB, and this machine gives 55.0 GB"
    del made["rows"][3]["calls_s"]["32"]
    found = " ".join(report.terminal(made).split())
    assert "baseline, qwen3-32b, 4 bits: left out, 32 at once need 60.0 GB" in found


def test_bars_of_memory_are_as_long_as_it_is_large() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    rows = [speed_row("program", "q", 4, 400, 3e8), speed_row("baseline", "b", 4, 20, 3e10)]
    figures.draw_bars(axes, [figures.peak(row) for row in rows])
    short, long = (bar.get_window_extent().width for bar in axes.patches)
    assert long / short == pytest.approx(100, rel=0.01)


def test_a_curves_label_stands_at_its_own_end() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    rows = [speed_row("program", "q", 4, 400, 3e8), speed_row("baseline", "b", 4, 20, 3e10)]
    del rows[1]["calls_s"]["32"]
    figures.draw_calls(axes, rows, ["1", "8", "32"])
    assert {text.get_text()[:4]: text.xy[0] for text in axes.texts} == {"6.67": 8, "267 ": 32}
    at = (axes.transData + axes.transAxes.inverted()).transform
    for text, y in zip(axes.texts, (20 / 3, 400 / 1.5), strict=True):
        assert text.xy[1] == pytest.approx(at((1, y))[1])


def test_a_report_of_nothing_but_skipped_rows_still_shows_them() -> None:
    row = {"subject": "baseline", "model": "m", "bits": 4, "skipped": "too large"}
    made = made_report("speed", [row])
    assert "baseline, m, 4 bits: skipped, too large" in report.terminal(made)
    assert "skipped, too large" in report.markdown(made)
    assert plots.svgs(made) == {}


def test_accuracy_has_methods_across_and_groups_down() -> None:
    text = report.terminal(EVERY["accuracy"]())
    assert re.search(r"program +typos +200 +140 +70.0 +64.0–75.0", text)
    assert re.search(r"closed label +100 +2 \(0–7\) +10 \(4–15\) +74 \(68–79\)", text)
    assert r"extract \| keys" in report.markdown(EVERY["accuracy"]())


def test_accuracy_says_what_to_beat_what_failed_and_how_groups_came_about() -> None:
    settings = {"commonest": 0.412, "groups": "kinds are derived from the outputs"}
    made = EVERY["accuracy"](settings=settings)
    assert "failed" not in report.terminal(made)
    made["rows"][0]["failed"] = 3
    made["rows"].append({"method": "baseline", "noise": "typos", "skipped": "no room"})
    for text in (report.terminal(made), report.markdown(made)):
        assert "Always saying the commonest output: 41.2 %." in text
        assert "Groups: kinds are derived from the outputs." in text
        assert "baseline, typos: skipped, no room" in text
        assert "failed" in text
    assert "methods" in drawn(made)


def test_a_program_that_takes_more_than_the_baseline_is_told_so() -> None:
    made = speed()
    made["rows"][1] |= {"active_bytes": 40 * 10**9, "peak_bytes": 40 * 10**9}
    text = report.terminal(made)
    assert "2.07×" in text
    assert "1/0." not in text
    assert "1/" not in words(drawn(made)["memory"])


def test_accuracy_says_what_is_the_same_and_what_intervals_count() -> None:
    made = EVERY["accuracy"](settings={"functions": 100})
    assert "stand or fall" not in report.terminal(made)
    made["settings"]["clustered"] = 100
    made["rows"].append(accuracy_row("tuned-20", "all", 120, 200, same_as="tuned-all"))
    for text in (report.terminal(made), report.markdown(made)):
        assert "100 functions: rows of one function stand or fall together" in text
        assert "tuned-20 is tuned-all: both learn from all rows there are." in text


def test_what_a_file_calls_its_categories_breaks_no_table() -> None:
    made = EVERY["accuracy"]()
    made["rows"][4]["group"] = "category: a\n| <b>x</b> \x1b[31m" + "long " * 20
    assert max(map(len, report.terminal(made).splitlines())) <= tables.WIDTH
    assert "\x1b" not in report.terminal(made)
    page = report.markdown(made)
    assert r"a \| \<b>x" in page


def test_compiling_has_a_column_for_every_phase_and_a_median() -> None:
    text = report.terminal(EVERY["compile"]())
    assert re.search(r"pseudo +encode +map +total", text)
    assert re.search(r"median +21.0 +3.00 +0.250 +24.2", text)
    assert "Sort this: failed, no answer" in text


def test_a_table_too_wide_goes_on_below_behind_its_first_column() -> None:
    columns = [Column("name", "", lambda row: row["name"], left=True)]
    columns += [Column(f"figure {i}", "", lambda row, i=i: f"{i:010}") for i in range(20)]
    text = tables.as_text(Table("Wide", columns, [{"name": "row"}]))
    assert max(map(len, text.splitlines())) <= tables.WIDTH
    assert sum(line.startswith("row") for line in text.splitlines()) == 3
    assert all(f"{i:010}" in text for i in range(20))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0, "0"), (0.01234, "0.0123"), (0.5, "0.500"), (0.99961, "1.00"), (1.5, "1.50")),
        *((9.999, "10.0"), (12.34, "12.3"), (99.99, "100"), (1234.5, "1,234"), (-2.5, "-2.50")),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert tables.number(value) == text


# --- plots ---------------------------------------------------------------------------------


def drawn(made: dict[str, Any]) -> dict[str, str]:
    pytest.importorskip("matplotlib")
    return plots.svgs(made)


def words(svg: str) -> str:
    return " ".join(ET.fromstring(svg).itertext())


PLOTS = {
    "speed": {
        "tokens": ("401 of 1,525", "program, qwen3-0.6b, 4 bits", "ceiling"),
        "memory": ("takes 1/51.5 of", "430 MB", "22.1 GB", "peak bytes"),
        "calls": ("267  program, qwen3-0.6b, 4 bits", "32 at once"),
        "latency": ("4.99", "345", "Milliseconds"),
    },
    "accuracy": {
        "methods": ("74.0", "program, typos", "95 % interval", *METHODS),
        "kind": ("closed label (100)", "free text (50)"),
    },
    "quality": {
        "unseen-families": ("55.0", "all (480)", "classify (120)", "json | edit", "compiled"),
        "test-families": ("test functions", "tuned-5", "95 % interval"),
    },
    "compile": {"seconds": ("pseudo", "24.2 s")},
    "versus": {"engines": ("paw-mlx", "mlx-lm", "700", "520")},
    "reproduce": {},
}


@pytest.mark.parametrize("kind", KINDS)
def test_plots_are_svg_with_their_numbers_in_words(kind: str) -> None:
    found = drawn(EVERY[kind]())
    assert found.keys() == PLOTS[kind].keys()
    for name, svg in found.items():
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        for word in (*PLOTS[kind][name], "Apple M4 Max", "2026-11-21"):
            assert word in words(svg)
        ground = svg[svg.index('id="patch_1"') :].partition("</g>")[0]
        assert "fill: #ffffff" in ground  # its own, for pages that are dark
        assert "dc:date" not in svg


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_plots_drawn_twice_are_the_same_bytes(kind: str, tmp_path: Path) -> None:
    first = drawn(EVERY[kind]())
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path; from reports import EVERY\n"
        "from paw_mlx.benchmarks.report import plots\n"
        f"plots.draw(EVERY[{kind!r}](), Path(sys.argv[1]) / 'x')"
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, timeout=60)
    again = {path.stem.removeprefix("x-"): path.read_text() for path in tmp_path.iterdir()}
    assert again == first


def test_plots_say_that_weights_are_synthetic_and_draw_ranges() -> None:
    made = speed(synthetic=True)
    made["rows"][0]["ceiling_tok_s"] = [410.0, 546.0]
    made["rows"][1]["ceiling_tok_s"] = None
    tokens = words(drawn(made)["tokens"])
    assert "synthetic weights" in tokens
    assert "520 of 410–546" in tokens


def test_missing_matplotlib_costs_the_plots_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(NotFound, match="not installed"):
        plots.svgs(speed())
    bench.finish(speed(), tmp_path, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == speed()
    assert "no plots: matplotlib is not installed. `pip install 'paw-mlx[bench]'`" in err
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md"]


# --- the command line ----------------------------------------------------------------------


def test_finish_prints_and_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    bench.finish(speed(), tmp_path, as_json=False)
    out, err = capsys.readouterr()
    assert out == report.terminal(speed()) + "\n"
    assert "wrote " in err
    names = sorted(
        path.name.removeprefix("apple-m4-max-2026-11-21-") for path in tmp_path.iterdir()
    )
    drawings = [f"speed-{name}.svg" for name in PLOTS["speed"]]
    assert names == sorted([*drawings, "speed.json", "speed.md"])


@pytest.mark.parametrize("as_json", [True, False])
def test_what_cannot_be_printed_is_kept(
    as_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(bench.click, "echo", closed)
    monkeypatch.setattr(bench, "say", lambda line: None)
    with pytest.raises(BrokenPipeError):
        bench.finish(speed(), tmp_path, as_json)
    assert report.load(tmp_path / "apple-m4-max-2026-11-21-speed.json") == speed()


def test_what_cannot_be_kept_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        bench.finish(speed(), tmp_path / "file", as_json=True)
    assert json.loads(capsys.readouterr().out) == speed()


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    bench.finish(speed(), None, as_json=True)
    out, err = capsys.readouterr()
    assert json.loads(out) == speed()
    assert out.count("\n") == 1
    assert err == ""


def test_help_lists_the_bench_commands_and_each_is_there() -> None:
    shown = CliRunner().invoke(cli, ["bench", "--help"])
    assert shown.exit_code == 0
    for name in bench.COMMANDS:
        assert f"  {name}" in shown.output
        one = CliRunner().invoke(cli, ["bench", name, "--help"])
        assert one.exit_code == 0, name
        assert "--json" in one.output
    assert CliRunner().invoke(cli, ["bench", "sped"]).exit_code == 2


# --- the README ----------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with pages that hold no results yet; where results go."""
    monkeypatch.setattr(pages, "RESULTS", tmp_path / "benchmarks" / "results")
    monkeypatch.setattr(pages, "README", tmp_path / "benchmarks" / "README.md")
    monkeypatch.setattr(pages, "DOCS", tmp_path / "README.md")
    pages.RESULTS.mkdir(parents=True)
    for page in (pages.README, pages.DOCS):
        page.write_text("# Top\n\n<!-- results -->\nold\n<!-- /results -->\n\nend\n")
    return pages.RESULTS


def test_pages_get_the_results_between_their_marks(places: Path) -> None:
    path = bench.keep(speed(), places)
    path.with_suffix(".md").write_text("as it was said once")
    report.save(EVERY["accuracy"]() | {"date": "2026-11-22T09:00:00Z"}, places)
    pages.main()
    made = pages.README.read_text()
    assert made.startswith("# Top\n\n<!-- results -->\n\n### Accuracy on Apple M4 Max")
    assert made.endswith("<!-- /results -->\n\nend\n")
    assert "\nold\n" not in made
    assert f"[{path.name}](results/{path.name})" in made
    assert f"[{path.stem}.md](results/{path.stem}.md)" in made
    assert f"![{path.stem}-memory](results/{path.stem}-memory.svg)" in made
    assert "By kind of output" in made
    assert "By length" not in made  # that is for the full page
    assert path.with_suffix(".md").read_text() == report.markdown(speed())
    assert pages.pages()[pages.README] == made


def test_the_front_page_shows_the_newest_speed_that_was_measured_whole(places: Path) -> None:
    pages.main()
    assert pages.DOCS.read_text() == "# Top\n\n<!-- results -->\n\n<!-- /results -->\n\nend\n"
    report.save(speed(), places)
    later = {"date": "2026-12-01T00:00:00Z", "settings": speed()["settings"] | {"partial": True}}
    report.save(speed(**later), places)
    pages.main()
    front = pages.DOCS.read_text()
    assert f"**{headings.title(speed())}**" in front
    assert "### Tokens per second" in front
    assert "calls/s" not in front


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(FormatError, match="no <!-- results -->"):
        pages.with_results("# Top", [])


def test_the_pages_show_the_results_that_are_committed() -> None:
    stale = [path.name for path, text in pages.pages().items() if path.read_text("utf-8") != text]
    assert not stale, "run python -m paw_mlx.benchmarks.report"


def test_results_of_before_power_modes_are_shown(tmp_path: Path) -> None:
    made = speed()
    made["conditions"]["start"] = {"power": "ac", "low_power": True, "load": 1.0}
    assert "start: low power mode" in report.terminal(report.load(report.save(made, tmp_path)))


def test_a_stat_measured_once_has_no_spread() -> None:
    made = speed()
    made["rows"] = [made["rows"][0] | {"decode_tok_s": report.stat([520.0])}]
    assert "min–max" not in report.terminal(made)
    made["rows"][0]["decode_tok_s"] = near(520.0)
    assert "510–530" in report.terminal(made)


@pytest.mark.parametrize("name", ["base", "a.gguf", "not here"])
def test_a_reason_names_no_folder_whatever_spaces_are_in_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "Jane Doe SSD" / "Application Support" / "bases"
    folder.mkdir(parents=True)
    (folder / "base").mkdir()
    said = f"{folder / name} does not load, '{folder}/b' nor /no/such/c"
    assert report.reason(PawError(said)) == f"{name} does not load, 'b' nor c"
    said = f"cannot copy {folder / 'base'}/ to {tmp_path / 'x'}: at 3 tok/s, see https://a.b/c/d"
    wanted = "cannot copy base to x: at 3 tok/s, see https://a.b/c/d"
    assert report.reason(PawError(said)) == wanted
    urls = "see https://a.b/c/d or tok/s at /home/s/x/y: no"
    assert report.reason(PawError(urls)) == "see https://a.b/c/d or tok/s at y: no"
