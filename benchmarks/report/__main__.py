"""The pages of the results that are committed: `python -m paw_mlx.benchmarks.report` writes them
anew, as tables and sentences may have changed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from paw_mlx.benchmarks.report import headings, sections
from paw_mlx.benchmarks.report.report import RESULTS, Report, head, load, markdown, write
from paw_mlx.benchmarks.report.tables import as_markdown
from paw_mlx.errors import FormatError

README = RESULTS.with_name("README.md")
DOCS = Path(__file__).resolve().parents[2] / "docs" / "measuring.md"  # shows the newest speed
_IN_DOCS = ("Tokens per second", "Memory")  # tables
_MARKS = ("<!-- results -->", "<!-- /results -->")


def pages() -> dict[Path, str]:
    """Return what the committed results say: a page of each, all of them in short, the speed."""
    found = [(path, load(path)) for path in RESULTS.glob("*.json")]
    found.sort(key=lambda one: (one[1]["date"], one[0].name), reverse=True)
    made = {path.with_suffix(".md"): markdown(report) for path, report in found}
    page, front = (path.read_text(encoding="utf-8") for path in (README, DOCS))
    made[README] = with_results(page, [_in_short(path, report) for path, report in found])
    whole = [report for _, report in found if not report["settings"].get("partial")]
    speeds = [report for report in whole if report["kind"] == "speed"]
    made[DOCS] = with_results(front, [_on_front(report) for report in speeds[:1]])
    return made


def with_results(page: str, results: Iterable[str]) -> str:
    """Return a page with other results between its marks; FormatError for one without marks."""
    head, mark, rest = page.partition(_MARKS[0])
    _, end, tail = rest.partition(_MARKS[1])
    if not (mark and end):
        raise FormatError(f"the page has no {_MARKS[0]} … {_MARKS[1]}")
    return "\n\n".join([f"{head}{mark}", *results, f"{end}{tail}"])


def _in_short(path: Path, report: Report) -> str:
    """A result's main tables and its plots, with links to the rest."""
    folder = path.parent.name
    own = re.compile(re.escape(path.stem) + r"-[a-z][a-z-]*")  # not those of its -2
    plots = [plot for plot in sorted(path.parent.glob("*.svg")) if own.fullmatch(plot.stem)]
    shown = [f"![{plot.stem}]({folder}/{plot.name})" for plot in plots]
    more = " ".join(f"[{name}]({folder}/{name})" for name in (f"{path.stem}.md", path.name))
    main = [as_markdown(table, 4) for table in sections.tables(report) if table.main]
    parts = [*head(report, "### "), *main, *shown]
    return "\n\n".join([*parts, f"{headings.machine_line(report)} {more}"])


def _on_front(report: Report) -> str:
    shown = [table for table in sections.tables(report) if table.title in _IN_DOCS]
    synthetic = [headings.SYNTHETIC] if report["synthetic"] else []
    parts = [f"**{headings.title(report)}**", *synthetic, *(as_markdown(t, 3) for t in shown)]
    return "\n\n".join([*parts, headings.machine_line(report)])


def main() -> None:
    """Write all of them."""
    for path, page in pages().items():
        write(path, page)


if __name__ == "__main__":
    main()
