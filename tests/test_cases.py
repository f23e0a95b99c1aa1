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


def test_rows_to_be_ranked_have_a_group_and_a_grade(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    more = ['"group": "q1", "grade": 2.5', '"group": 7, "grade": 0', '"grade": null, "group": null']
    file.write_text("".join(f'{{"input": "a", "output": "b", {each}}}\n' for each in more))
    found = [(case.group, case.grade) for case in read_cases(file)]
    assert found == [("q1", 2.5), ("7", 0.0), (None, None)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('"grade": "good"', "line 1: \"grade\" is 'good', and no number of 0 or more"),
        ('"grade": -1', "line 1: \"grade\" is '-1', and no number of 0 or more"),
        ('"grade": true', "line 1: \"grade\" is 'True', and no number of 0 or more"),
        ('"grade": NaN', "line 1: \"grade\" is 'nan', and no number of 0 or more"),
        (
            f'"grade": 1{"0" * 400}',
            f"line 1: \"grade\" is '1{'0' * 39}', and no number of 0 or more",
        ),
        ('"group": [1]', "line 1: \"group\" is '[1]', and no name or whole number"),
    ],
)
def test_a_grade_that_is_none_is_named(tmp_path: Path, more: str, message: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(f'{{"input": "a", "output": "b", {more}}}')
    with pytest.raises(FormatError) as raised:
        read_cases(file)
    assert str(raised.value).endswith(message)


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
