"""The processes that measure: what is said of them in a report."""

from __future__ import annotations

import pytest

from paw_mlx.benchmarks.worker import reason
from paw_mlx.errors import PawError


@pytest.mark.parametrize("name", ["base", "a.gguf", "not here"])
def test_a_reason_names_no_folder_whatever_spaces_are_in_it(tmp_path, name):
    folder = tmp_path / "Jane Doe SSD" / "Application Support" / "bases"
    folder.mkdir(parents=True)
    (folder / "base").mkdir()
    said = f"{folder / name} does not load, '{folder}/b' nor /no/such/c"
    assert reason(PawError(said)) == f"{name} does not load, 'b' nor c"
    said = f"cannot copy {folder / 'base'}/ to {tmp_path / 'x'}: at 3 tok/s, see https://a.b/c/d"
    wanted = "cannot copy base to x: at 3 tok/s, see https://a.b/c/d"
    assert reason(PawError(said)) == wanted
