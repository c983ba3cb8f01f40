"""The command line of the search: what is wrong is said in one line, before anything is started."""

import errno
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split, truncate
from PIL import Image

from keras_ddnn.config import as_json
from keras_ddnn.data.datasets import DATASETS
from keras_ddnn.files.checksums import sha256_of_json
from tune import cluster, driver, plan, report
from tune.output import alone_in
from tune.search import main
from tune.space import SearchConfig


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch):
    monkeypatch.setattr(cluster, "start", lambda *_: pytest.fail("Ray was started"))


def toy_arrays(**replaced):
    arrays = {}
    for seed, (what, n) in enumerate({"train": 60, "val": 30, "test": 30}.items()):
        split = toy_split(n, seed)
        arrays |= {f"x_{what}": split.images, f"y_{what}": split.labels}
    return arrays | replaced


@pytest.fixture
def toy_npz(tmp_path):
    np.savez(tmp_path / "toy.npz", **toy_arrays())
    return str(tmp_path / "toy.npz")


@pytest.fixture
def refused(capsys, tmp_path):
    """Run a command that must be refused; return its one line of error."""

    def run(*arguments):
        output = [] if "--output" in arguments else ["--output", str(tmp_path / "out")]
        assert main([*arguments, *output]) == 2
        out, err = capsys.readouterr()
        assert not out or (out.startswith("search of ") and out.count("\n") == 1)
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        return err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lambda-local", "1.5"], "lambda_local must lie in [0, 1]; received 1.5"),
        (["--lambda-local", "nan"], "lambda_local must lie in [0, 1]; received nan"),
        (["--local-fraction", "0.5", "-0.1"], "local_fraction must lie in [0, 1]; received -0.1"),
        (["--depth", "9"], "unknown head depth 9; known: 1, 2, 3, 4"),
        (["--bottleneck", "none", "0"], "bottleneck must be a positive integer; received 0"),
        (["--epochs", "0"], "epochs must be a positive integer; received 0"),
        (["--seed", "-1"], "seed must be an integer in 0..2**32-1; received -1"),
        (["--num-cpus", "0"], "num_cpus must be a positive integer; received 0"),
        (["--gpus-per-network", "0"], "gpus_per_network must be a positive integer; received 0"),
        (["--save-seconds", "nan"], "save_seconds must be positive; received nan"),
        (["--trials", "3"], "received trials=3"),
        (["--searcher", "random"], "the random searcher needs a number of trials"),
        (["--dataset", "imagenet"], ", ".join(DATASETS)),
        (["--dataset", "no/such.npz"], "dataset path 'no/such.npz' does not exist"),
    ],
)
def test_a_bad_option_is_refused(refused, tmp_path, arguments, message):
    assert message in refused(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, whose class 1 is transparent and holds floats of 0..1000."""
    for what, count in (("train", 6), ("val", 2), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / "photos" / what / name).mkdir(parents=True)
        for i in range(count):
            clear = Image.new("RGBA", (16, 16), (i, i, i, 0))
            clear.save(tmp_path / "photos" / what / "a" / f"{i}.png")
            deep = Image.fromarray(np.full((16, 16), 1000, np.float32))
            deep.save(tmp_path / "photos" / what / "b" / f"{i}.tif")
    return tmp_path / "photos"


def test_options_of_image_files_reach_the_data(photos, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(driver, "make_plan", lambda search, splits, *_: seen.append(splits))
    monkeypatch.setattr(report, "show_plan", lambda plan: None)
    command = ["--dataset", str(photos), "--dry-run", "--output", str(tmp_path / "out")]
    assert main([*command, "--background", "#0080ff", "--scale", "1000"]) == 0
    images = seen[0].test.images
    assert images[0, 0, 0].tolist() == [0, 128, 255]
    assert images[-1].min() == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "received mode F, which has none: name the value with --scale"),
        (["--scale", "900"], "expected values of 0 to 900, received 1000 to 1000"),
        (["--scale", "-1"], "scale must be positive"),
        (["--background", "mauve"], "background must be #rrggbb or three numbers of 0..255"),
    ],
)
def test_bad_options_of_image_files_are_refused(refused, photos, options, message):
    assert message in refused("--dataset", str(photos), *options)


def test_a_class_that_no_report_can_name_is_refused_by_a_dry_run(refused, photos):
    for folder in photos.glob("*/a"):
        folder.rename(folder.with_name(os.fsdecode(b"caf\xe9")))
    assert "must be UTF-8" in refused("--dataset", str(photos), "--scale", "1000", "--dry-run")


@pytest.mark.parametrize("option", ["--output", "--backbones"])
def test_a_folder_that_ray_cannot_name_is_refused(refused, toy_npz, tmp_path, option):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    command = ["--dataset", toy_npz, option, str(folder)]
    assert f"the path of {option} must be UTF-8" in refused(*command)
    assert f"the path of {option} must be UTF-8" in refused(*command, "--dry-run")
    assert not folder.exists()


IMAGES = toy_split(60, 0).images
NAN = np.where(np.arange(60)[:, None, None, None] == 7, np.nan, IMAGES / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": NAN}, "train images: expected finite pixels, received NaN or infinity in 1"),
        ({"y_train": np.ones(60, int)}, "expected at least two classes, received only class 1"),
        ({"x_train": IMAGES[..., :2]}, "received shape (60, 16, 16, 2)"),
        ({"x_test": IMAGES[..., :1], "y_test": np.arange(60) % 3}, "received (16, 16, 1)"),
        ({"x_test": IMAGES[:0], "y_test": np.zeros(0, int)}, "test images: expected at least one"),
        ({"y_val": np.arange(30)}, "val labels: expected classes in 0..2, received 3, 4, 5, …, 29"),
        ({"y_test": np.arange(29) % 3}, "received 30 images and 29 labels"),
    ],
)
def test_bad_data_are_refused(refused, tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **toy_arrays(**arrays))
    assert message in refused("--dataset", str(tmp_path / "bad.npz"))
    assert not (tmp_path / "out").exists()


def test_a_dataset_that_is_not_prepared_is_refused_with_what_to_do(refused, tmp_path):
    error = refused("--dataset", "cifar10", "--data-dir", str(tmp_path / "tfds"))
    for part in (str(tmp_path / "tfds"), "tfds build cifar10", "cluttered_digits"):
        assert part in error


def write_search(folder, **fields):
    folder.mkdir()
    config = as_json(SearchConfig(**fields))
    config["sha256"] = sha256_of_json(config)
    (folder / "search.json").write_text(json.dumps(config))


def test_an_output_folder_of_something_else_is_left_alone(refused, tmp_path, toy_npz):
    output = tmp_path / "thesis"
    output.mkdir()
    (output / "chapter1.tex").write_text("precious")
    for option in ([], ["--resume"], ["--overwrite"]):
        error = refused("--dataset", toy_npz, "--output", str(output), *option)
        assert f"{output} exists and holds no search" in error
    assert (output / "chapter1.tex").read_text() == "precious"


def test_an_older_search_is_not_touched_unasked(refused, tmp_path, toy_npz):
    write_search(tmp_path / "old")
    error = refused("--dataset", toy_npz, "--output", str(tmp_path / "old"))
    assert "holds a search: pass --resume or --overwrite" in error


def test_another_search_is_not_resumed(refused, tmp_path, toy_npz):
    write_search(tmp_path / "old", dataset=toy_npz, depth=(4,))
    error = refused("--dataset", toy_npz, "--output", str(tmp_path / "old"), "--resume")
    assert "holds another search than the one asked for" in error


def test_two_searches_do_not_write_to_one_folder(refused, tmp_path, toy_npz):
    with alone_in(tmp_path / "out"):
        error = refused("--dataset", toy_npz, "--output", str(tmp_path / "out"))
    assert f"another search is running in {tmp_path / 'out'}" in error
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_cannot_be_written_is_refused(refused, tmp_path, toy_npz):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "out"
    assert f"cannot write to the output folder {output}" in refused(
        "--dataset", toy_npz, "--output", str(output)
    )


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["--preset", "huge"], "quickstart"),
        (["--input", "sound"], "logits_plus"),
        (["--architecture", "tree"], "paper_mlp"),
        (["--loss", "zero"], "focal"),
        (["--labels", "hearsay"], "cross_fitted"),
        (["--anchored", "maybe"], "yes or no"),
        (["--searcher", "guess"], "optuna"),
        (["--scheduler", "late"], "asha"),
        (["--lambda-local", "x"], 'argument --lambda-local: expected a number or "random"; rec'),
        (["--bottleneck", "x"], 'argument --bottleneck: expected an integer or "none"; received'),
        (["--oversample", "maybe"], "yes or no"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_known_ones(capsys, arguments, known):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert known in capsys.readouterr().err


def test_a_failed_search_ends_in_one_line(monkeypatch, capsys, tmp_path, toy_npz):
    def fail(*_):
        raise RuntimeError("no trial finished")

    monkeypatch.setattr(cluster, "start", fail)
    assert main(["--dataset", toy_npz, "--output", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "error: no trial finished\n"


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_a_damaged_description_does_not_stop_a_search_from_going_on(
    monkeypatch, capsys, tmp_path, toy_npz, damage
):
    """The records of finished trials tell by their keys what they are."""
    write_search(tmp_path / "old")
    damage(tmp_path / "old" / "search.json")

    def started(*_):
        raise RuntimeError("started")

    monkeypatch.setattr(cluster, "start", started)
    arguments = ["--dataset", toy_npz, "--output", str(tmp_path / "old"), "--resume"]
    assert main(arguments) == 1
    assert capsys.readouterr().err == "error: started\n"
    assert json.loads((tmp_path / "old" / "search.json").read_text())["dataset"] == toy_npz


def test_an_interrupted_search_says_how_to_go_on(monkeypatch, capsys, tmp_path, toy_npz):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "start", interrupt)
    assert main(["--dataset", toy_npz, "--output", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "interrupted: pass --resume to go on\n"


@pytest.mark.parametrize(
    ("options", "backbones", "trials"),
    [
        ([], 2, 24),
        (["--searcher", "random", "--trials", "5"], 2, 5),
        (["--labels", "final_epoch", "cross_fitted"], 2 + 2 * 3, 24 * 2),
    ],
)
def test_a_dry_run_shows_the_plan_and_writes_nothing(
    capsys, tmp_path, toy_npz, options, backbones, trials
):
    before = sorted(tmp_path.rglob("*"))
    output = str(tmp_path / "out")
    assert main(["--dry-run", "--dataset", toy_npz, "--output", output, *options]) == 0
    plan = {row[0]: row[1:] for row in _rows(capsys.readouterr().out)}
    assert plan["backbones"] == [str(backbones)] * 2
    assert plan["head trials"] == [str(trials)] * 2
    assert float(plan["estimated minutes"][1]) > 0
    assert int(plan["parameters of a backbone"][1].replace(",", "")) == 428_934
    weights, banks = 4 * 428_934, (60 + 30 + 30) * (2 * 8 * 8 * 32 + 8 * 3 + 16)
    assert plan["disk for weights and banks"][1] == f"{2 * (weights + banks) / 1e6:.1f} MB"
    assert plan["memory for arrays"][1].endswith(" MB")
    assert sorted(tmp_path.rglob("*")) == before


def _rows(table):
    lines = [line for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_folds_that_a_class_is_too_small_for_are_refused(refused, tmp_path, flags):
    labels = toy_arrays()["y_train"].copy()
    labels[labels == 2] = 1
    labels[:2] = 2
    np.savez(tmp_path / "few.npz", **toy_arrays(y_train=labels))
    asked = ["--dataset", str(tmp_path / "few.npz"), "--labels", "final_epoch", "cross_fitted"]
    line = refused(*asked, *flags)
    assert "'cross_fitted' need 3 training images a class; received 2 of class 2: add" in line


def test_a_single_test_image_is_refused(refused, tmp_path):
    arrays = toy_arrays()
    few = {name: arrays[name][:1] for name in ("x_test", "y_test")}
    np.savez(tmp_path / "few.npz", **arrays | few)
    assert "test: expected at least two images" in refused("--dataset", str(tmp_path / "few.npz"))


@pytest.fixture
def no_training(monkeypatch):
    """Let a search come as far as its training, which ends at once."""
    pytest.importorskip("ray")

    def train(*_):
        raise RuntimeError("training begins")

    monkeypatch.setattr(cluster, "start", lambda *_: None)
    monkeypatch.setattr(cluster, "in_worker", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(driver, "_train_backbones", train)


@pytest.mark.parametrize(
    ("memory", "disk", "warnings"),
    [
        (10**6, 10**12, ["1.0 MB is available", None]),
        (10**12, 10**6, [None, "1.0 MB is free"]),
        (10**12, 10**12, [None, None]),
    ],
)
def test_what_will_not_fit_is_said_before_the_training(
    monkeypatch, capsys, tmp_path, toy_npz, no_training, memory, disk, warnings
):
    monkeypatch.setattr(plan, "available_memory", lambda: memory)
    usage = shutil.disk_usage(tmp_path)._replace(free=disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(["--dataset", toy_npz, "--output", str(tmp_path / "out")]) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "error: training begins"
    expected = [warning for warning in warnings if warning]
    assert [line for line in lines if line.startswith("warning: ")] == lines
    assert len(lines) == len(expected)
    assert all(part in line for part, line in zip(expected, lines))


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device; what is"),
        (MemoryError("cannot allocate 7 GiB"), 1, "MemoryError: cannot allocate 7 GiB; what is"),
        (KeyError("lost"), 1, "error: KeyError: 'lost'"),
        (RuntimeError("one\nStack:\n two"), 1, "error: one"),
    ],
)
def test_whatever_fails_in_a_search_is_one_line(
    monkeypatch, capsys, tmp_path, toy_npz, no_training, error, code, line
):
    """As a disk that fills up during the report, or an error of a library."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(driver, "_train_backbones", lambda *_: {})
    monkeypatch.setattr(driver, "_run_trials", lambda *_: [])
    monkeypatch.setattr(report, "write", fail)
    arguments = ["--dataset", toy_npz, "--output", str(tmp_path / "out")]
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert line in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    with pytest.raises(type(error)):
        main([*arguments, "--resume", "--traceback"])


def test_a_search_of_which_all_failed_says_why(monkeypatch, capsys, tmp_path, toy_npz, no_training):
    search = SearchConfig(dataset=toy_npz, depth=(1, 2, 3))
    reasons = dict(
        zip(search.grid(), ["MemoryError: 7 GiB", "MemoryError: 7 GiB", "ValueError: x"])
    )
    rows = [
        driver._unfinished(f"{depth}", trial, "failed", reason)
        for depth, (trial, reason) in enumerate(reasons.items())
    ]
    monkeypatch.setattr(driver, "_train_backbones", lambda *_: {})
    monkeypatch.setattr(driver, "_run_trials", lambda *_: rows)
    assert main(["--dataset", toy_npz, "--output", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert "error: no trial finished: MemoryError: 7 GiB (2×); ValueError: x; see " in err
    assert err.count("\n") == 1


def test_a_plan_for_scripts_is_one_object_and_a_quiet_one_a_line(tmp_path, toy_npz, capsys):
    asked = ["--dataset", toy_npz, "--output", str(tmp_path / "out"), "--dry-run"]
    assert main([*asked, "--json"]) == 0
    out, err = capsys.readouterr()
    plan = json.loads(out)
    assert plan["backbones"] == plan["backbones_to_train"] == 2
    assert err.startswith("search of ")
    assert main([*asked, "--quiet"]) == 0
    assert capsys.readouterr().out == f"2 backbones and {plan['trials']} head trials are to do\n"


FIRST_LINE = """
import sys
from tune.search import main

class Said(Exception):
    pass

def write(text):
    heavy = {"ray", "tensorflow", "keras", "pandas", "scipy"} & sys.modules.keys()
    print(text.strip(), sorted(heavy), file=sys.stderr)
    sys.exit()

sys.stdout.write = write
main(sys.argv[1:])
"""


def test_the_first_line_is_there_before_anything_heavy_is_imported(tmp_path, toy_npz):
    asked = ["--dataset", toy_npz, "--output", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINE, *asked], capture_output=True, text=True, check=True
    )
    assert done.stderr.startswith("search of ")
    assert done.stderr.endswith(" []\n")


TERMINATED = """
import sys, time
from tune import cluster, driver
from tune.search import main

def train(wanted, splits, workspace, training):
    backbones = workspace.backbones
    from keras_ddnn.files.atomic import replacing_folder
    with replacing_folder(backbones / "trained"):
        pass
    with replacing_folder(backbones / "half"):
        print("training", flush=True)
        time.sleep(60)

driver._train_backbones, driver._warn, cluster.start = train, lambda *_: None, lambda *_: None
sys.exit(main(sys.argv[1:]))
"""


def test_a_terminated_search_ends_with_143_and_leaves_nothing(tmp_path, toy_npz):
    output = tmp_path / "runs" / "out"
    search = subprocess.Popen(
        [sys.executable, "-c", TERMINATED, "--dataset", toy_npz, "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert search.stdout.readline().startswith("search of ")
    assert search.stdout.readline() == "training\n"
    search.terminate()
    _, err = search.communicate(timeout=30)
    assert search.returncode == 143
    assert err == "terminated: pass --resume to go on\n"
    assert [path.name for path in (tmp_path / "runs" / "backbones").iterdir()] == ["trained"]
