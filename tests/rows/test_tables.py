"""Tables as people have them: stray quotes, blanks after commas, Excel's hints, joined files."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from row_files import table
from test_run import PROGRAM, Shouting

from paw_mlx.errors import FieldError
from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles, map_rows
from paw_mlx.rows.source import open_input
from paw_mlx.rows.target import part_of, side_of
from paw_mlx.runner import Options


def shout(tmp_path: Path, name: str, text: str, **how: Any) -> str:
    """What a program that shouts makes of a table; nothing of it is lost wherever it is cut."""
    file, out = tmp_path / name, tmp_path / f"out-{name}"
    file.write_bytes(text.encode())

    def run(resume: bool) -> str:
        with open_input(file) as source:
            files = RowFiles.open(source, out, **how)
            with closing(Part(out, {}, files.writer, resume)) as part:
                for _ in map_rows(Shouting(), PROGRAM, files, part, Options()):
                    pass
        return out.read_bytes().decode()

    whole = run(False)
    record = '{"job": {}, "num_failed": 0, "last_failed": null}'
    for end in range(len(whole.encode())):
        part_of(out).write_bytes(whole.encode()[:end])
        side_of(part_of(out)).write_text(record)
        assert run(True) == whole, whole.encode()[:end]
    return whole


def test_between_tabs_a_quote_that_nobody_closes_is_a_character(tmp_path: Path) -> None:
    text = 'id\tsubject\n1\t"open\n2\tb\n3\t"c\nd"\n4\t"Lunch" he said\n5\te"f\n'
    found = shout(tmp_path, "a.tsv", text, field="subject")
    rows = table(found.encode(), delimiter="\t")
    assert [row["subject"] for row in rows] == ['"open', "b", "c\nd", '"Lunch" he said', 'e"f']
    assert [row["output"] for row in rows] == [row["subject"].upper() for row in rows]
    assert not any(row["error"] for row in rows)


def test_between_commas_it_spoils_its_own_line_alone(tmp_path: Path) -> None:
    text = 'id,text\n1,"open\n2,b\n3,"c, d"\n4,e\n5,"f'
    rows = table(shout(tmp_path, "a.csv", text).encode())
    assert [row["output"] for row in rows] == ["", "B", "C, D", "E", ""]
    assert [row["id"] for row in rows] == ['1,"open', "2", "3", "4", '5,"f']
    assert [row["error"] for row in rows if row["error"]] == [
        "FormatError: no valid csv (a quote in it has no end)",
        "FormatError: no valid csv (unexpected end of data)",
    ]


def test_a_pipe_that_is_quiet_inside_a_quote_loses_nothing() -> None:
    from paw_mlx.rows.records import Dialect, mend_records

    lines = iter([b'1,"open\n', None, b"2,b\n", None, b"3,c\n"])
    found = [record and record.text for record in mend_records(lines, Dialect())]
    assert [text for text in found if text] == ['1,"open', "2,b", "3,c"]
    lines = iter([b'1,"open\n', None, b'and closed"\n', b"3,c\n"])
    found = [record and record.values for record in mend_records(lines, Dialect())]
    assert found == [["1", "open\nand closed"], ["3", "c"]]


def test_a_field_may_be_long_and_an_open_quote_is_not_looked_for_without_end() -> None:
    from paw_mlx.rows.records import MAX_FIELD, Dialect, mend_records

    lines = iter([b'1,"' + b"x" * 1_000_000 + b'"\n', b'2,"' + b"x" * MAX_FIELD + b"\n", b"3,c\n"])
    long, longer, after = (record and record.values for record in mend_records(lines, Dialect()))
    assert isinstance(long, list)
    assert len(long[1]) == 1_000_000
    assert "field larger than field limit" in str(longer)
    assert after == ["3", "c"]


def test_quotes_that_nobody_needs_stay(tmp_path: Path) -> None:
    found = shout(tmp_path, "a.csv", 'id,"text"\n"1","a"\n2,"b"\n', field="text")
    assert found == 'id,"text",output,error\n"1","a",A,\n2,"b",B,\n'


def test_short_records_are_filled_up_and_blank_lines_are_none(tmp_path: Path) -> None:
    found = shout(tmp_path, "a.csv", "\n \nid,text,a,b\n1,x\n\n2\n3,y,,z\n", field="text")
    assert found.splitlines() == [
        "id,text,a,b,output,error",
        "1,x,,,X,",
        '2,,,,,"FormatError: 1 field, and the input is field 2"',
        "3,y,,z,Y,",
    ]


def test_a_record_of_too_many_fields_stays_whole(tmp_path: Path) -> None:
    found = shout(tmp_path, "a.csv", "id,text\n1,x,y\n2,z\n")
    assert found.splitlines() == [
        "id,text,output,error",
        '"1,x,y",,,"FormatError: 3 fields, and the header has 2"',
        "2,z,Z,",
    ]


def test_objects_become_records_and_one_of_other_fields_stays_whole(tmp_path: Path) -> None:
    file, out = tmp_path / "a.jsonl", tmp_path / "out.csv"
    other = '{"text": "b", "more": 1}'
    file.write_text(f'{{"id": 1, "tags": ["ü"], "text": "a"}}\n{other}\n', encoding="utf-8")
    with open_input(file) as source:
        files = RowFiles.open(source, out)
        with closing(Part(out, {}, files.writer, False)) as part:
            for _ in map_rows(Shouting(), PROGRAM, files, part, Options()):
                pass
    one, two = table(out.read_bytes())
    assert one == {"id": "1", "tags": '["ü"]', "text": "a", "output": "A", "error": ""}
    assert {**two, "error": two["error"][:11]} == {
        **dict.fromkeys(one, ""), "id": f"{other}", "error": "FormatError",
    }  # fmt: skip


def test_a_header_behind_a_mark_may_take_several_lines(tmp_path: Path) -> None:
    found = shout(tmp_path, "a.csv", '\ufeff"id\nof it",text\n1,a\n', field="text")
    assert table(found.encode()) == [{"id\nof it": "1", "text": "a", "output": "A", "error": ""}]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_blank_after_each_delimiter_is_no_part_of_a_field(tmp_path: Path, newline: str) -> None:
    text = newline.join(["id, text, more", '1, "a, b", ', '2, "c ""d""", e', "3, f", ""])
    found = shout(tmp_path, "a.csv", text, field="text")
    assert found.split(newline) == [
        "id, text, more, output, error",
        '1, "a, b", , "A, B", ',
        '2, "c ""d""", e, "C ""D""", ',
        "3, f, , F, ",
        "",
    ]


def test_excels_hint_names_the_delimiter_and_stays(tmp_path: Path) -> None:
    for head in ("sep=;\r\n", "\ufeffsep=;\r\n", '"sep=;"\r\n'):
        found = shout(tmp_path, "a.csv", f"{head}id;a,b,c,text\r\n1;x\r\n", field="id")
        assert found == f"{head}id;a,b,c,text;output;error\r\n1;x;1;\r\n"
    found = shout(tmp_path, "b.tsv", "sep=;\nid;text\n1;x\n", field="text")
    assert found == "id\ttext\toutput\terror\n1\tx\tX\t\n"


def test_a_field_that_is_there_twice_is_not_guessed(tmp_path: Path) -> None:
    for how in ({"field": "text"}, {}):
        with pytest.raises(FieldError, match="2 fields are called 'text'"):
            shout(tmp_path, "a.csv", "text,id,text\n1,2,3\n", **how)
    assert "1,2,3,2," in shout(tmp_path, "b.csv", "text,id,text\n1,2,3\n", field="id")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "\ufeffa\n\ufeffb\n"),
        ("a.jsonl", '\ufeff"a"\n\ufeff{"input": "b"}\n'),
        ("a.csv", '\ufefftext\na\n\ufeff"b"\n'),
    ],
)
def test_a_mark_in_the_middle_is_no_part_of_a_row(tmp_path: Path, name: str, text: str) -> None:
    runner, out = Shouting(), tmp_path / f"out-{name}"
    (tmp_path / name).write_text(text, encoding="utf-8")
    with open_input(tmp_path / name) as source:
        files = RowFiles.open(source, out)
        with closing(Part(out, {}, files.writer, False)) as part:
            assert not any(
                isinstance(outcome.answer, Exception)
                for outcome in map_rows(runner, PROGRAM, files, part, Options())
            )
    assert runner.texts == ["a", "b"]
    assert "\ufeff" not in out.read_text(encoding="utf-8-sig")
