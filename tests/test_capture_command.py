"""A bank in shards, by `python -m tune.capture`: the one that a single process captures."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split, truncate
from toy_manifest import forge

from keras_ddnn.data.bank import Bank
from keras_ddnn.data.datasets import load
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.files.atomic import KERNEL
from keras_ddnn.files.checksums import sha256
from keras_ddnn.training.capture import capture
from tune import capture as command
from tune import cluster, shards
from tune.output import alone_in
from tune.shards import RECORD, Source, default_rows, load_shards

ROOT = Path(__file__).parent.parent
ROWS = {
    "shard-00000.npz": (0, 500),
    "shard-00001.npz": (500, 1000),
    "shard-00002.npz": (1000, 1120),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """1,120 validation images: two shards of a batch each, and one of 120."""
    arrays = {}
    for seed, (what, n) in enumerate({"train": 6, "val": 1120, "test": 6}.items()):
        split = toy_split(n, seed)
        arrays |= {f"x_{what}": split.images, f"y_{what}": split.labels}
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def expected(toy_artifact) -> Bank:
    """The bank that one process captures."""
    split = toy_split(1120, 1)
    return capture(load_policy(toy_artifact).model, split.images, split.labels)


@pytest.fixture
def made(monkeypatch):
    """Compute in this process, without Ray; return the names of the shards that are computed."""
    names = []

    def here(jobs):
        for job in jobs:
            yield job.name, shards.captured(job, names.append)

    monkeypatch.setattr(command, "by_workers", here)
    monkeypatch.setattr(cluster, "start", lambda *_: None)
    monkeypatch.setattr(cluster, "in_worker", lambda function, *arguments: function(*arguments))
    return names


@pytest.fixture
def run(toy_artifact, data, tmp_path, made, capsys):
    """Run the command on the toy data; return its exit code and the lines of both streams."""

    def run(*options, artifact=toy_artifact, dataset=data):
        asked = [str(artifact), "--dataset", str(dataset), "--output", str(tmp_path / "bank")]
        code = command.main([*asked, "--shard-rows", "500", *options])
        return code, *(text.splitlines() for text in capsys.readouterr())

    return run


@pytest.fixture
def finished(tmp_path, toy_artifact, data, expected) -> Path:
    """The folder that the command leaves, made of the bank of one process."""
    artifact = sha256(toy_artifact / "manifest.json")
    source = Source(artifact, load(data).fingerprint(), "val", 1120, 500)
    bank = shards.ShardedBank.begun(tmp_path / "bank", source)
    for name, (start, stop) in ROWS.items():
        outputs = {tier: said.outputs[start:stop] for tier, said in expected.tiers.items()}
        bank.write(name, outputs, expected.labels)
    return bank.folder


def test_scripts_are_told_of_a_capture_in_json_and_quiet_people_in_a_line(run, finished):
    code, out, _ = run("--json")
    assert (code, len(out)) == (0, 1)
    content = json.loads(out[0])
    assert content.pop("output") == str(finished)
    assert content == {"split": "val", "samples": 1120, "shards": 3, "kept": 3}
    code, out, err = run("--quiet")
    assert (code, len(out), err) == (0, 1, [])


def assert_same(bank: Bank, expected: Bank) -> None:
    assert [*bank.tiers] == [*expected.tiers]
    for name, tier in expected.tiers.items():
        assert bank.tiers[name].outputs.tobytes() == tier.outputs.tobytes()
    assert bank.labels.tolist() == expected.labels.tolist()
    assert bank.index.tolist() == list(range(len(expected)))


def test_the_shards_are_the_bank_of_one_process_bit_for_bit(run, tmp_path, made, expected):
    code, out, err = run()
    assert (code, err, made) == (0, [], [*ROWS])
    assert out == [f"1,120 val samples are in {tmp_path / 'bank'}: 3 shards, of which 0 were there"]
    assert_same(load_shards(tmp_path / "bank"), expected)
    for name, (start, stop) in ROWS.items():
        assert Bank.load(tmp_path / "bank" / name).index.tolist() == list(range(start, stop))


def test_inputs_are_given_back_to_a_sharded_bank(finished):
    images = toy_split(1120, 1).images
    assert load_shards(finished, images).edge.inputs is images
    with pytest.raises(ValueError, match="inputs: expected 1120 rows, received 7"):
        load_shards(finished, images[:7])


def test_only_shards_that_are_missing_or_damaged_are_made_again(
    run, finished, made, expected, caplog
):
    flip_a_bit(finished / "shard-00000.npz")
    (finished / "shard-00002.npz").unlink()
    with pytest.raises(ValueError, match=r"shard-00000\.npz is damaged.*run tune\.capture again"):
        load_shards(finished)
    code, out, _ = run()
    assert (code, made) == (0, ["shard-00000.npz", "shard-00002.npz"])
    assert out[0].endswith("3 shards, of which 1 were there")
    assert "it is kept as shard-00000.npz.damaged and made again" in caplog.text
    assert_same(load_shards(finished), expected)
    assert (finished / "shard-00000.npz.damaged").exists()


def test_nothing_is_started_when_all_is_there(run, finished, made, monkeypatch):
    monkeypatch.setattr(cluster, "start", lambda *_: pytest.fail("Ray was started"))
    code, out, _ = run()
    assert (code, made) == (0, [])
    assert out[0].endswith("3 shards, of which 3 were there")


@pytest.mark.parametrize("noted", [True, False], ids=["after a note", "before its note"])
def test_a_capture_that_is_interrupted_goes_on(run, tmp_path, made, monkeypatch, noted, expected):
    """As after Ctrl-C once the second shard is written, or between it and its note."""
    write, note = shards.ShardedBank.write, shards.ShardedBank._note
    with monkeypatch.context() as patch:
        if noted:

            def write_two(bank, name, *rest):
                if name == "shard-00002.npz":
                    raise KeyboardInterrupt
                write(bank, name, *rest)

            patch.setattr(shards.ShardedBank, "write", write_two)
        else:

            def note_one(bank):
                if len(bank.hashes) == 2:
                    raise KeyboardInterrupt
                note(bank)

            patch.setattr(shards.ShardedBank, "_note", note_one)
        code, out, err = run()
        assert (code, out, err) == (130, [], ["interrupted: run the same command again to go on"])
    with pytest.raises(ValueError, match=r"run tune\.capture again to go on"):
        load_shards(tmp_path / "bank")
    made.clear()
    assert run()[0] == 0
    assert made == [*ROWS][2 if noted else 1 :]
    assert_same(load_shards(tmp_path / "bank"), expected)


def test_what_a_killed_capture_was_writing_is_removed(run, finished):
    left = finished / f".shard-00001.npz.{KERNEL}.abcd1234"
    left.write_bytes(b"half")
    assert run()[0] == 0
    assert not left.exists()


def test_another_artefact_or_data_set_is_refused_in_one_line(
    run, finished, tmp_path, toy_policy, made, data
):
    other = tmp_path / "other"
    save_policy(replace(toy_policy, score_threshold=0.9), other, graphs=False)
    with np.load(data) as arrays:
        np.savez(tmp_path / "other.npz", **dict(arrays) | {"x_val": arrays["x_val"] ^ 1})
    refused = [
        (run(artifact=other), "holds a bank of artifact "),
        (run(dataset=tmp_path / "other.npz"), "holds a bank of data "),
        (run("--split", "test"), "holds a bank of split val; received split test"),
        (run("--shard-rows", "1000"), "holds a bank of shard_rows 500; received shard_rows 1000"),
    ]
    for (code, out, err), message in refused:
        assert (code, out, len(err)) == (2, [], 1)
        assert err[0].startswith(f"error: {finished} {message}")
        assert "choose another --output" in err[0]
    assert not made


def one_line(result) -> str:
    code, out, err = result
    assert (code, out) == (2, [])
    assert len(err) == 1
    return err[0]


def test_what_is_wrong_is_one_line_before_anything_is_started(run, tmp_path, toy_artifact, made):
    assert "no readable manifest.json: run a search first" in one_line(run(artifact=tmp_path))
    assert "does not exist" in one_line(run(dataset="no/such.npz"))
    assert "a multiple of 500, the size of a batch, such as 1000, received 750" in one_line(
        run("--shard-rows", "750")
    )
    assert "num_cpus must be a positive integer" in one_line(run("--num-cpus", "0"))
    inside = str(toy_artifact / "bank")
    assert "a folder outside of the artefact" in one_line(run("--output", inside))
    np.savez(tmp_path / "large.npz", **_arrays((20, 20, 3)))
    large = one_line(run(dataset=tmp_path / "large.npz"))
    assert "expected shape (16, 16, 3), which the artefact reads, received (20, 20, 3)" in large
    assert large.endswith("--image-size 16x16")
    assert not (tmp_path / "bank").exists()
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "thesis.txt").write_text("mine")
    assert "exists and holds no sharded bank: choose another --output" in one_line(run())
    assert not made


def _arrays(shape) -> dict[str, np.ndarray]:
    arrays = {}
    for what in ("train", "val", "test"):
        split = toy_split(6, 0, shape=shape)
        arrays |= {f"x_{what}": split.images, f"y_{what}": split.labels}
    return arrays


def test_a_damaged_record_is_not_overwritten(run, finished):
    truncate(finished / RECORD)
    assert f"{finished / RECORD} is damaged" in one_line(run())


def test_two_captures_do_not_write_to_one_folder(run, tmp_path):
    with alone_in(tmp_path / "bank", "capture"):
        assert f"another capture is running in {tmp_path / 'bank'}" in one_line(run())


@pytest.fixture
def photographs(tmp_path):
    """A folder of images of two classes of other names than those of the artefact."""
    from PIL import Image

    for what in ("train", "val", "test"):
        for name in ("b", "d"):
            folder = tmp_path / "photographs" / what / name
            folder.mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (16, 16), (i, i, i)).save(folder / f"{i}.png")
    return tmp_path / "photographs"


def test_a_folder_of_other_classes_is_not_taken_for_those_of_the_artefact(run, photographs):
    code, out, err = run(dataset=photographs)
    assert (code, out) == (2, [])
    assert err[-1].endswith("expected those of the artefact, a, b, c, received b, d")


def test_images_that_are_read_otherwise_than_those_of_training_are_said(
    run, photographs, toy_artifact, tmp_path, caplog
):
    artifact = shutil.copytree(toy_artifact, tmp_path / "artifact")
    reading = {"fit": "pad_to_aspect_ratio", "background": [255, 255, 255], "scale": None}
    forge(artifact, lambda manifest: manifest | {"reading": reading})
    said = "fit is resize here; for the training images it was pad_to_aspect_ratio"
    run(artifact=artifact, dataset=photographs)
    assert caplog.messages.count(said) == 1
    caplog.clear()
    run("--fit", "pad_to_aspect_ratio", artifact=artifact, dataset=photographs)
    assert "for the training images" not in caplog.text


def test_an_artefact_that_changes_in_the_meantime_is_noticed(toy_artifact):
    with pytest.raises(ValueError, match="has changed since the start: run the command again"):
        shards.network(toy_artifact, "0" * 64)


def test_a_run_is_as_good_as_its_artefact(run, tmp_path, toy_artifact, made):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "artifact").symlink_to(toy_artifact)
    assert run("--split", "test", artifact=tmp_path / "run")[0] == 0
    assert made == ["shard-00000.npz"]


def test_a_shard_holds_about_256_megabytes_in_whole_batches():
    assert default_rows(128 * 128 * 3) == 5000  # 246 MB, and 5,500 would be 270
    assert default_rows(10**6) == 500
    source = Source("", "", "val", 1120, 500)
    assert {name: (rows.start, rows.stop) for name, rows in source.shards.items()} == ROWS


@pytest.mark.slow
def test_two_hosts_give_the_bank_of_one_process(
    toy_artifact, data, tmp_path, expected, monkeypatch
):
    from benchmarks.cluster import a_cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with a_cluster(hosts=2) as (address, _):
        command = [sys.executable, "-m", "tune.capture", str(toy_artifact), "--dataset", str(data)]
        command += ["--shard-rows", "500", "--output", str(tmp_path / "bank")]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, "--address", address],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("3 shards, of which 0 were there\n")
    assert_same(load_shards(tmp_path / "bank"), expected)
    assert len(json.loads((tmp_path / "bank" / RECORD).read_text())["content"]["shards"]) == 3
