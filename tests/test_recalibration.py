"""An artefact is calibrated anew without training, and a running device takes that up at once."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split, untrained_policy
from fault_server import FaultServer
from PIL import Image

from keras_ddnn import recalibrate
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.deploy.recalibrate_command import main
from keras_ddnn.files.manifest import read_manifest, sign_artifact
from keras_ddnn.rules.calibration import for_accuracy_drop, for_local_fraction
from keras_ddnn.rules.recalibration import path_beside, read_recalibrated, write_recalibration
from keras_ddnn.serve.edge.runtime import EdgeRuntime

NEW = toy_split(80, 7)


@pytest.fixture
def artifact(toy_artifact, tmp_path):
    """Return an artefact of its own, so that a file may be written beside it."""
    return shutil.copytree(toy_artifact, tmp_path / "artifact")


def keeps(share):
    return partial(for_local_fraction, local_fraction=share)


def test_a_running_device_takes_a_recalibration_up_without_a_restart(artifact):
    with EdgeRuntime(artifact) as runtime:
        before = runtime.predict(NEW.images)
        found = recalibrate(artifact, NEW.images, NEW.labels, calibrate=keeps(0.75))
        after = runtime.predict(NEW.images)
    assert before.settings.source == "artifact"
    assert after.settings.source == "recalibration"
    assert after.settings.score_threshold == found.calibration.score_threshold
    assert np.mean(~after.offloaded) == pytest.approx(0.75, abs=0.02)
    np.testing.assert_array_equal(before.scores, after.scores)  # nothing else has changed
    assert path_beside(artifact) == found.path


def test_without_a_promise_the_share_that_was_kept_is_kept_again(artifact):
    found = recalibrate(artifact, NEW.images, NEW.labels)
    assert found.after.outcome["local_fraction"] == pytest.approx(0.5, abs=0.02)
    assert (found.before.promise, found.before.kept) == (None, None)


def test_a_certificate_in_force_is_made_again_and_told_before_and_after(artifact):
    certify = partial(for_accuracy_drop, max_drop=0.2, delta=0.1)
    first = recalibrate(artifact, NEW.images, NEW.labels, calibrate=certify)
    again = recalibrate(artifact, *(lambda s: (s.images, s.labels))(toy_split(60, 8)))
    assert again.before.score_threshold == first.after.score_threshold
    assert again.calibration.numbers["options"] == {"max_drop": 0.2, "delta": 0.1}
    told = {name: words for name, *words in again.rows()}
    assert told["promise"][1].startswith(
        "with probability 90.0% or more, accuracy is at most 20.00"
    )
    assert [words.split()[0] for words in told["local fraction"]] == [
        f"{operation.outcome['local_fraction']:.1%}" for operation in (again.before, again.after)
    ]


def test_the_artefact_stays_as_it_was_saved(artifact):
    recalibrate(artifact, NEW.images, NEW.labels, calibrate=keeps(0.75))
    assert load_policy(artifact).score_threshold == read_manifest(artifact)["score_threshold"]


def test_where_the_file_is_deleted_the_artefact_counts_again(artifact):
    runtime = EdgeRuntime(artifact)
    own = runtime.score_threshold
    recalibrate(artifact, NEW.images, NEW.labels, calibrate=keeps(0.75))
    assert runtime.score_threshold != own
    path_beside(artifact).unlink()
    assert runtime.score_threshold == own


def write(artifact, threshold, sign=None):
    """Write a recalibration of another threshold, and return its file."""
    return write_recalibration(
        artifact, read_manifest(artifact), {"score_threshold": threshold}, sign
    )


def a_bit(path, artifact):
    flip_a_bit(path)


def another_threshold(path, artifact):
    path.write_text(path.read_text().replace('"score_threshold": 0.7', '"score_threshold": 0.6'))


def not_a_number(path, artifact):
    file = json.loads(path.read_text())
    file["content"]["replaced"]["score_threshold"] = "high"
    path.write_text(json.dumps(file))


def another_field(path, artifact):
    file = json.loads(path.read_text())
    file["content"]["replaced"]["class_names"] = ["c", "b", "a"]
    path.write_text(json.dumps(file))


def nothing(path, artifact):
    path.write_bytes(b"")


BAD = {
    "a_bit": a_bit,
    "another_threshold": another_threshold,
    "not_a_number": not_a_number,
    "another_field": another_field,
    "nothing": nothing,
}


@pytest.mark.parametrize("damage", BAD)
def test_a_bad_file_changes_nothing_and_is_told_once(artifact, caplog, damage):
    with EdgeRuntime(artifact) as runtime:
        write(artifact, 0.25)
        assert runtime.score_threshold == 0.25
        path = write(artifact, 0.7)
        BAD[damage](path, artifact)
        for _ in range(3):
            assert runtime.predict(NEW.images[:1]).settings.score_threshold == 0.25
        assert (runtime.current.taken_up, runtime.current.refused) == (1, 1)
        write(artifact, 0.7)
        assert runtime.score_threshold == 0.7
    (line,) = [record.getMessage() for record in caplog.records]
    assert str(path) in line
    assert "\n" not in line


def test_a_recalibration_of_another_artefact_is_not_taken_up(artifact, tmp_path):
    other = tmp_path / "other"
    save_policy(untrained_policy(local_filters=8), other, graphs=False)
    write(other, 0.7)
    shutil.copy(path_beside(other), path_beside(artifact))
    runtime = EdgeRuntime(artifact)
    assert runtime.score_threshold == runtime.manifest["score_threshold"]
    with pytest.raises(ValueError, match="expected a recalibration of the artefact"):
        read_recalibrated(artifact, runtime.manifest)


def key_pair():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    return private, private.public_key()


def test_a_device_that_asks_for_a_signature_takes_up_no_other(artifact, caplog):
    private, public = key_pair()
    stranger, _ = key_pair()
    sign_artifact(artifact, private)
    runtime = EdgeRuntime(artifact, verify_key=public)
    own = runtime.score_threshold
    for key, words in ((None, "expected a signature"), (stranger, "that of another key")):
        write(artifact, 0.7, key)
        assert runtime.score_threshold == own
        assert words in caplog.records[-1].getMessage()
    write(artifact, 0.7, private)
    assert runtime.score_threshold == 0.7


def test_no_request_is_lost_while_thresholds_change(artifact):
    with FaultServer() as server, EdgeRuntime(artifact, server.url, deadline_s=30.0) as runtime:
        for turn in range(6):
            write(artifact, (-1.0, 2.0)[turn % 2])
            answer = runtime.predict(NEW.images[:4])
            assert answer.offloaded.all() if turn % 2 == 0 else not answer.offloaded.any()
            assert not answer.fallback.any()
        assert runtime.metrics.numbers()["local"] == runtime.metrics.numbers()["cloud"] == 12


def test_a_guard_is_made_anew_of_what_was_chosen_anew(artifact):
    runtime = EdgeRuntime(artifact, guarded=True)
    recalibrate(artifact, NEW.images, NEW.labels, calibrate=keeps(0.75))
    assert runtime.guard.controller.local_fraction == pytest.approx(0.75, abs=0.02)


# ---- the command


def folder_of(tmp_path, split, names):
    for k, (image, label) in enumerate(zip(split.images, split.labels)):
        (tmp_path / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / names[label] / f"{k}.png")
    return tmp_path


def test_the_command_tells_before_and_after(artifact, tmp_path, capsys):
    np.savez(tmp_path / "new.npz", x=NEW.images, y=NEW.labels)
    assert main([str(artifact), "--dataset", str(tmp_path / "new.npz"), "--max-drop", "0.3"]) == 0
    printed = capsys.readouterr().out
    for name in ("local fraction:", "accuracy:", "promise:", "temperatures:"):
        (place,) = [k for k, line in enumerate(printed.splitlines()) if line.startswith(name)]
        assert "before: " in printed.splitlines()[place]
        assert "after:  " in printed.splitlines()[place + 1]
    assert read_recalibrated(artifact, read_manifest(artifact))["dataset"] == "new"


def test_classes_of_a_folder_are_found_by_name_though_some_are_missing(artifact, tmp_path):
    # Of the artefact's a, b and c there are only b and c, which would be numbers 0 and 1.
    rows = np.flatnonzero(NEW.labels > 0)
    part = NEW.take(rows)
    folder = folder_of(tmp_path / "recent", part, "abc")
    assert main([str(artifact), "--dataset", str(folder), "--local-fraction", "0.5"]) == 0
    manifest = read_recalibrated(artifact, read_manifest(artifact))
    expected = recalibrate(artifact, part.images, part.labels, calibrate=keeps(0.5))
    assert manifest["calibration"]["numbers"]["validation"] == pytest.approx(expected.after.outcome)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--delta", "0.1"], "--delta: expected --max-drop or --max-increase beside it"),
        (["--delta", "0.1", "--local-fraction", "0.5"], "--delta: expected a certificate"),
    ],
)
def test_options_that_cannot_be_are_refused_before_data_are_read(capsys, options, words):
    assert main(["no-such-run", "--dataset", "no-such.npz", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-drop", "2"], "argument --max-drop: expected a number above 0 and below 1"),
        (["--local-fraction", "nan"], "argument --local-fraction: expected a number from 0 to 1"),
    ],
)
def test_a_number_out_of_range_names_its_option(capsys, options, words):
    with pytest.raises(SystemExit):
        main(["no-such-run", "--dataset", "no-such.npz", *options])
    assert words in capsys.readouterr().err


def test_data_of_other_classes_or_shapes_are_refused_in_one_line(artifact, tmp_path, capsys):
    other = folder_of(tmp_path / "other", NEW.take(np.arange(12)), ("a", "b", "horse"))
    np.savez(tmp_path / "labels.npz", x=NEW.images, y=NEW.labels + 1)
    np.savez(tmp_path / "shape.npz", x=np.repeat(NEW.images, 2, axis=1), y=NEW.labels)
    for data, words in (
        (other, "expected those of the artefact, a, b, c, received horse"),
        (tmp_path / "labels.npz", "expected classes in 0..2"),
        (tmp_path / "shape.npz", "shape (n, 16, 16, 3)"),
    ):
        assert main([str(artifact), "--dataset", str(data)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        assert words in line
    assert not path_beside(artifact).exists()
