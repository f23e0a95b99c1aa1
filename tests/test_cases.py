"""Files of cases: what is one, and how a line that is none is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from paw_mlx.cases import Case, check_cases, read_cases
from paw_mlx.errors import FormatError, NotFound, OptionError, PawError

NEEDS = ': a case needs the strings "input" and "output"'


def test_blank_lines_and_other_keys_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    text = '\ufeff{"input": "a", "output": "b", "id": 1}\r\n\n  \n{"output": " d\\n", "input": "c"}'
    file.write_text(text, encoding="utf-8", newline="")
    assert read_cases(file) == [Case("a", "b"), Case("c", " d\n")]


def test_files_that_were_joined_have_a_mark_in_the_middle(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text('\ufeff{"input": "a", "output": "b"}\n' * 2, encoding="utf-8")
    assert [(case.input, case.line) for case in read_cases(file)] == [("a", 1), ("a", 2)]


def test_a_case_that_is_no_text_is_named() -> None:
    good = Case("a", "b", line=7)
    check_cases([good, good])
    for bad, message in (
        (Case(float("nan"), "b"), "row 2: an input is text, and this is of type float"),  # type: ignore[arg-type]
        (Case("a", "\ud83d", line=9), "line 9: half a character"),
    ):
        with pytest.raises(OptionError) as raised:
            check_cases([good, bad])
        assert message in str(raised.value)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b'{"input": "a", "output": "b"}\n\n{"input": 1}', FormatError, ", line 3" + NEEDS),
        (b'{"input": "a", "output": null}', FormatError, ", line 1" + NEEDS),
        (b'"a"', FormatError, ", line 1" + NEEDS),
        (b'{"input": "a"', FormatError, ", line 1: no valid JSON ("),
        (b"[" * 100_000, FormatError, ", line 1: no valid JSON ("),
        (b"\n \n", FormatError, " holds no cases"),
        (b"\xff", FormatError, " as UTF-8 text: "),
        (None, NotFound, "no such file: "),
    ],
)
def test_what_is_no_case_is_named(
    tmp_path: Path, data: bytes | None, error: type[PawError], message: str
) -> None:
    file = tmp_path / "cases.jsonl"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(error) as raised:
        read_cases(file)
    assert message in str(raised.value)
    assert str(file) in str(raised.value)
