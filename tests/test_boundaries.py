"""What mutants showed no other test holds: ends of ranges, and figures that people read."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest

from paw_mlx import files
from paw_mlx.cases import Case
from paw_mlx.convert.receipt import percent
from paw_mlx.errors import DiskError
from paw_mlx.evaluation.observed import Observed
from paw_mlx.evaluation.report import Judged, Report
from paw_mlx.evaluation.shift import Shift, show_p
from paw_mlx.output import Labels
from paw_mlx.runner import Result


def test_a_file_brings_all_the_folders_it_needs(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "a" / "b" / "c") as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"new"


@pytest.mark.parametrize("platform", ["linux", "aix"])
def test_only_macos_is_sent_to_its_settings(
    platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(DiskError) as caught, files.read_errors(tmp_path):
        raise PermissionError(errno.EPERM, "Operation not permitted", "a.paw")
    assert "chmod" in caught.value.hints[0]


def test_a_folder_is_replaced_without_a_c_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: object) -> None:
        raise OSError("no C library")

    monkeypatch.setattr("ctypes.CDLL", missing)
    for text in ("old", "new"):
        with files.replacing(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "file").write_text(text)
    assert (tmp_path / "folder" / "file").read_text() == "new"


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
def test_a_temperature_may_be_either_end(temperature: float) -> None:
    assert Labels(("a", "b"), temperature=temperature).temperature == temperature


def test_a_share_is_in_percent() -> None:
    assert [percent(0.75), percent(math.inf)] == ["75 %", "all of it"]


def test_a_right_answer_that_is_no_label_ranks_as_the_least() -> None:
    judged = []
    for right, share in (("c", 0.9), ("a", 0.1)):
        decision = Labels(("a", "b")).decide([math.log(share), math.log(1 - share)])
        result = Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision)
        judged.append(Judged.of(Case("?", right, group="x"), result))
    assert Report(judged).ndcg == pytest.approx(1 / math.log2(3))


def test_a_p_value_is_shown_to_three_places() -> None:
    assert [show_p(p) for p in (None, 0.0004, 0.001, 0.25)] == ["", "< 0.001", "= 0.001", "= 0.250"]


def test_how_many_more_inputs_fail_is_a_difference_of_shares() -> None:
    def observed(failed: int) -> Observed:
        found = Observed(())
        answer = Result("x", "stop", 0, 1, 1, 0.0, 0.0)
        for number in range(20):
            found.add("x", answer if number >= failed else DiskError("cannot read"))
        return found

    change = {one.name: one for one in Shift.between(observed(4), observed(6)).changes}["failed"]
    assert (change.before, change.after) == (0.2, 0.3)
    assert change.distance == pytest.approx(0.1)
    assert change.sentence == "more inputs fail: 20.0% → 30.0%"
    assert change.p is not None
    assert 0.3 < change.p <= 1.0
