"""Files and folders appear whole or not at all, and leave nothing behind."""

import json
import os
import stat
import subprocess
import sys

import pytest

from keras_ddnn.files.atomic import remove_leftovers, replacing_file, replacing_folder, write_json


class Killed(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


def write_half_of(file):
    file.write(b"half of")
    raise Killed


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("older", [{}, {"report.json": "older"}])
def test_an_interrupted_file_leaves_the_older_one_and_no_other(tmp_path, older):
    for name, text in older.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(Killed), replacing_file(tmp_path / "report.json") as file:
        write_half_of(file)
    assert contents(tmp_path) == older


@pytest.mark.parametrize("older", [{}, {"report/a.csv": "older", "report/b.csv": "older"}])
def test_an_interrupted_folder_leaves_the_older_one_and_no_other(tmp_path, older):
    for name, text in older.items():
        (tmp_path / "report").mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with (
        pytest.raises(Killed),
        replacing_folder(tmp_path / "report") as new,
        open(new / "a.csv", "wb") as file,
    ):
        write_half_of(file)
    assert contents(tmp_path) == older
    assert [path.name for path in tmp_path.iterdir()] == (["report"] if older else [])


def test_the_older_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "bank.npz"
    path.write_text("older")
    with replacing_file(path) as file:
        file.write(b"newer")
        file.flush()
        assert path.read_text() == "older"
    assert contents(tmp_path) == {"bank.npz": "newer"}


def test_a_new_folder_replaces_every_file_of_the_older_one(tmp_path):
    for text in ("older", "newer"):
        with replacing_folder(tmp_path / "runs" / "report") as new:
            (new / "tables").mkdir()
            (new / "tables" / f"{text}.csv").write_text(text)
    assert contents(tmp_path) == {"runs/report/tables/newer.csv": "newer"}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["report"]


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_failed_rename_brings_the_older_folder_back(tmp_path, monkeypatch, failing_call):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "a.csv").write_text("older")
    rename, calls = os.replace, []

    def replace(source, target):
        calls.append(source)
        if len(calls) == failing_call:
            raise OSError("read-only file system")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="read-only"), replacing_folder(tmp_path / "report"):
        pass
    assert contents(tmp_path) == {"report/a.csv": "older"}
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "report").write_text("older")
    with pytest.raises(OSError, match="report"), replacing_folder(tmp_path / "report"):
        pass
    assert contents(tmp_path) == {"report": "older"}


def test_others_may_read_what_is_written(tmp_path):
    with replacing_folder(tmp_path / "report") as new:
        write_json(new / "report.json", {})
    assert stat.S_IMODE((tmp_path / "report").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "report" / "report.json").stat().st_mode) == 0o644


def test_json_is_the_same_text_whatever_the_order_of_its_keys(tmp_path):
    write_json(tmp_path / "a.json", {"λ": 0.5, "dataset": "toy"})
    write_json(tmp_path / "b.json", {"dataset": "toy", "λ": 0.5})
    assert contents(tmp_path)["a.json"] == contents(tmp_path)["b.json"]
    assert json.loads(contents(tmp_path)["a.json"]) == {"dataset": "toy", "λ": 0.5}


def run(code, folder):
    """Run Python code on a path in a folder in a process of its own, and let it begin."""
    code = (
        "import os, sys; from keras_ddnn.files.atomic import replacing_folder, write_json\n"
        "path = sys.argv[1] + '/trial'\n" + code
    )
    return subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)


KILLED = "os.replace = lambda *_: os._exit(9)  # no clean-up is run\n"


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_what_a_killed_writer_leaves_is_removed_and_nothing_else(tmp_path, seconds):
    for name in ("report.json", ".hidden", ".lock.file.with_dots"):
        (tmp_path / name).touch()
    for write in ("new = replacing_folder(path); new.__enter__()", "write_json(path, {})"):
        assert run(f"{KILLED}{write}; os._exit(9)", tmp_path).wait() == 9
    assert len(list(tmp_path.iterdir())) == 5
    owned = remove_leftovers(tmp_path, seconds)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"report.json", ".hidden", ".lock.file.with_dots"}
    assert owned == 0
    remove_leftovers(tmp_path / "nowhere")


@pytest.mark.parametrize("write", ["replacing_folder", "replacing_file"])
@pytest.mark.parametrize("days", [-3650, 0, 3650])
def test_what_a_living_process_writes_is_left_alone_whatever_the_clock_says(tmp_path, write, days):
    code = f"with {write}(path): print(flush=True); input()"
    code = (
        f"from keras_ddnn.files.atomic import {write}\npath = {str(tmp_path / 'trial')!r}\n{code}"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        (leftover,) = tmp_path.iterdir()
        then = leftover.stat().st_mtime + 86400 * days
        os.utime(leftover, (then, then))
        owned = remove_leftovers(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [leftover.name]
        assert owned == 1
        writer.communicate(b"\n")
    assert writer.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["trial"]


@pytest.mark.parametrize("name", [".trial.0123abcd.x_y_z_w_", ".trial.x_y_z_w_"])
@pytest.mark.parametrize(("days", "kept"), [(0, True), (-2, False), (2, False)])
def test_what_another_machine_or_version_left_is_removed_by_its_age(tmp_path, name, days, kept):
    """Two days old, or stamped by a clock that was two days ahead: nobody will come back for it."""
    (tmp_path / name).mkdir()
    then = (tmp_path / name).stat().st_mtime + 86400 * days
    os.utime(tmp_path / name, (then, then))
    remove_leftovers(tmp_path, seconds=86400)
    assert (tmp_path / name).exists() == kept


def test_a_folder_in_which_another_machine_still_writes_is_young(tmp_path):
    folder = tmp_path / ".trial.0123abcd.x_y_z_w_"
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "tensorboard" / "events").touch()
    os.utime(folder, (0, 0))
    remove_leftovers(tmp_path, seconds=3600)
    assert folder.exists()
