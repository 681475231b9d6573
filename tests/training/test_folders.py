"""Where runs are written and found."""

import pytest

from pyrl_sb3.training.errors import InputError
from pyrl_sb3.training.folders import find_model, new_run_folder, runs_of, write_whole


def test_runs_are_numbered_after_the_latest(tmp_path):
    for name in ("A-v1_1", "A-v1_10", "A-v1_2", "A-v1_x", "A-v1_03", "A-v1_b_99", "AA-v1_50"):
        (tmp_path / name).mkdir()
    assert [run.name for run in runs_of(tmp_path, "A-v1")] == ["A-v1_1", "A-v1_2", "A-v1_10"]
    assert new_run_folder(tmp_path, "A-v1").name == "A-v1_11"
    assert new_run_folder(tmp_path, "A-v1").name == "A-v1_12"
    assert new_run_folder(tmp_path / "new" / "er", "space/A-v1").name == "space-A-v1_1"


def test_the_latest_run_with_a_model_is_found(tmp_path):
    for _ in range(3):
        new_run_folder(tmp_path, "A-v1")
    (tmp_path / "A-v1_1" / "model.zip").touch()
    (tmp_path / "A-v1_2" / "model.zip").touch()
    assert find_model(tmp_path, "A-v1", "sac") == tmp_path / "A-v1_2" / "model.zip"
    with pytest.raises(InputError, match=r"no model of B-v1 in .*; there are A-v1_1, A-v1_2; "):
        find_model(tmp_path, "B-v1", "sac")


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "model.zip"
    write_whole(path, lambda part: part.write_text("first"))

    def fail(part):
        part.write_text("sec")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_whole(path, fail)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, lambda part: part.write_text("second"))
    assert path.read_text() == "second"


def test_a_write_that_cannot_begin_names_the_file_and_not_the_one_in_its_place(tmp_path):
    path = tmp_path / "gone" / "model.zip"
    with pytest.raises(FileNotFoundError) as error:
        write_whole(path, lambda part: part.write_text("first"))
    assert error.value.filename == str(path)
