"""Labels 10, 20 and 30, or words, go in, and the same come out: of policy, artefact and device."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from conftest import toy_split, untrained_policy
from fault_server import CLOUD_CLASS, FaultServer
from PIL import Image

import keras_ddnn
from keras_ddnn import DDNNConfig, HeadConfig, OffloadPolicy, Split
from keras_ddnn.data.classes import Classes
from keras_ddnn.data.datasets import as_split, read_training_data
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.heads.co_training import CoTrainedHead
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn

SMALL = DDNNConfig(
    local_filters=4,
    cloud_filters=((4,), (8,)),
    cloud_units=(8,),
    epochs=1,
    batch_size=16,
    precision="float32",
)
TENS = Classes((10, 20, 30))
WORDS = Classes(("ant", "bee", "cat"))
TRAIN, VAL, TEST = toy_split(96, 0), toy_split(48, 1), toy_split(60, 2)


def pair(split, classes=TENS):
    """Return images and the labels a user would have."""
    return split.images, classes.decode(split.labels)


@pytest.fixture
def said(caplog):
    """Return what was said of the data so far."""
    caplog.set_level("INFO", "keras_ddnn.data")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "keras_ddnn.data"]


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("training began"))


@pytest.fixture(scope="module")
def fitted():
    return fit_ddnn(pair(TRAIN), pair(VAL), SMALL, verbose=0)


# --- training -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_labels_with_gaps_train_the_network_of_their_numbers(fitted):
    plain = fit_ddnn(TRAIN, VAL, SMALL, verbose=0)
    assert (fitted.classes, plain.classes) == (TENS, Classes.numbered(3))
    for name in ("bank", "val_bank"):
        mapped, numbered = getattr(fitted, name), getattr(plain, name)
        np.testing.assert_array_equal(mapped.labels, numbered.labels)
        np.testing.assert_array_equal(mapped.cloud_logits, numbered.cloud_logits)


def test_the_mapping_is_said_once_in_one_line(said, no_training):
    with pytest.raises(pytest.fail.Exception, match="training began"):
        fit_ddnn(pair(TRAIN), pair(VAL), SMALL, verbose=0)
    assert said() == ["labels 10, 20, 30 are classes 0, 1, 2"]


def test_capture_reads_the_labels_of_the_user(fitted):
    np.testing.assert_array_equal(fitted.capture(pair(TEST)).labels, TEST.labels)
    read = as_split(*pair(TEST), classes=TENS)
    np.testing.assert_array_equal(fitted.capture(read).labels, TEST.labels)
    with pytest.raises(ValueError, match="known labels, 10, 20, 30, received 0, 1, 2"):
        fitted.capture(TEST)


def test_a_policy_answers_in_the_labels_of_the_user(fitted):
    policy = OffloadPolicy(
        fitted.model, fitted.config, Margin(), 0.5, fitted.classes.names, classes=fitted.classes
    )
    numbers, _ = replace(policy, classes=None).predict(TEST.images)
    answers, _ = policy.predict(TEST.images)
    np.testing.assert_array_equal(answers, TENS.decode(numbers))
    with pytest.raises(ValueError, match="class_names: expected 3 names"):
        replace(policy, class_names=("ten", "twenty"))


def test_an_explicit_number_of_classes_turns_the_mapping_off(said):
    labels = np.where(TRAIN.labels == 1, 4, 0)  # of five classes, two have samples
    train, val = read_training_data((TRAIN.images, labels), VAL, num_classes=5)
    assert train.classes == val.classes == Classes.numbered(5)
    np.testing.assert_array_equal(train.labels, labels)
    assert said() == []


@pytest.mark.parametrize(
    ("train", "val", "options", "message"),
    [
        (pair(TRAIN), None, {"num_classes": 3}, r"train labels: .* in 0\.\.2, received 10 to 30"),
        (pair(TRAIN), pair(VAL, Classes((10, 20, 7))), {}, "val labels: .* received 7"),
        (pair(TRAIN), VAL, {}, "val labels: expected known labels, 10, 20, 30, rec"),
        (pair(TRAIN, WORDS), VAL, {}, "val labels: expected strings such as"),
        (TRAIN, None, {"num_classes": 2 * 10**9}, "2,000,000,000 classes and 96 samples"),
        (TRAIN, None, {"num_classes": 0}, "num_classes must be a positive integer"),
        (as_split(*pair(TRAIN), classes=TENS), None, {"num_classes": 4}, "expected 3, received 4"),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value[:30],
)
@pytest.mark.usefixtures("no_training")
def test_labels_that_do_not_fit_end_before_any_training(train, val, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit_ddnn(train, val, SMALL, **options)
    assert "\n" not in str(caught.value)


def test_a_class_that_only_train_has_is_fine(no_training):
    few = VAL.take(VAL.labels < 2)
    with pytest.raises(pytest.fail.Exception, match="training began"):
        fit_ddnn(pair(TRAIN), pair(few), SMALL, verbose=0)


def test_a_head_trained_along_refuses_labels_it_cannot_read(fitted):
    head = CoTrainedHead(Split(*pair(TRAIN)), Split(*pair(VAL)))
    with pytest.raises(ValueError, match=r"trained along: expected classes in 0\.\.2, received 10"):
        fit_ddnn(pair(TRAIN), pair(VAL), SMALL, callbacks=[head], verbose=0)


# --- one class of one image, and other data that are too few --------------------------------------


def npz(folder, train, test=TEST, **more):
    path = folder / "mine.npz"
    arrays = {"x_train": train[0], "y_train": train[1], "x_test": test[0], "y_test": test[1]}
    np.savez(path, **arrays, **more)
    return path


@pytest.fixture
def class_of_one(tmp_path):
    """Labels 10, 20 and 30, the last of which train has once."""
    rows = np.concatenate([np.flatnonzero(TRAIN.labels < 2), [np.argmax(TRAIN.labels == 2)]])
    return npz(tmp_path, pair(TRAIN.take(rows)), pair(TEST))


def test_the_only_image_of_a_class_stays_in_train(class_of_one, said):
    splits = keras_ddnn.load(class_of_one)
    assert np.bincount(splits.train.labels)[2] == 1
    assert np.bincount(splits.val.labels).tolist() == [3, 3]
    assert said() == [
        "labels 10, 20, 30 are classes 0, 1, 2",
        "mine has no validation data: 6 of 65 training images become it",
        "validation data hold no image of 30: train has one, and keeps it",
    ]


def test_a_dataset_of_lone_images_has_nothing_to_hold_out(tmp_path):
    path = npz(tmp_path, (TRAIN.images[:5], np.arange(5)), (TEST.images[:5], np.arange(5)))
    with pytest.raises(ValueError, match="expected two samples of a class, one to hold out"):
        keras_ddnn.load(path)


@pytest.mark.parametrize("labels", ["held_out", "cross_fitted"])
@pytest.mark.usefixtures("no_training")
def test_folds_that_a_class_is_too_small_for_are_refused_before_training(class_of_one, labels):
    splits = keras_ddnn.load(class_of_one)
    expected = f"'{labels}' need 3 training images a class; received 1 of class 30: add some, or"
    with pytest.raises(ValueError, match=expected):
        keras_ddnn.run(splits, SMALL, {"head": HeadConfig(labels=labels)})


@pytest.mark.parametrize(
    ("change", "heads", "message"),
    [
        ({"val": VAL.take([0])}, None, "val: expected at least two images to measure by"),
        ({"test": TEST.take([0])}, None, "test: expected at least two images to measure by"),
        ({"train": TRAIN.take(np.argsort(TRAIN.labels)[:0])}, None, "3 classes and 0 samples"),
        ({}, {"margin": HeadConfig(), "oracle": HeadConfig()}, "received margin, oracle"),
    ],
)
@pytest.mark.usefixtures("no_training")
def test_a_run_that_must_fail_ends_before_training(toy_splits, change, heads, message):
    with pytest.raises(ValueError, match=message):
        keras_ddnn.run(replace(toy_splits, **change), SMALL, heads)


@pytest.mark.usefixtures("no_training")
def test_a_run_whose_artefact_cannot_be_written_ends_before_training(toy_splits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file", tmp_path / "file" / "artifact"):
        with pytest.raises(ValueError, match=f"cannot write the folder {place}: "):
            keras_ddnn.run(toy_splits, SMALL, artifact=place)


@pytest.mark.usefixtures("no_training")
def test_a_network_too_deep_for_its_images_is_refused_in_one_line(toy_splits):
    deep = replace(SMALL, cloud_filters=((4,),) * 4)
    with pytest.raises(ValueError, match=r"at least 32 pixels.*received \(16, 16, 3\)$"):
        fit_ddnn(toy_splits.train, toy_splits.val, deep)


# --- datasets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "name"), [(TENS, "20"), (WORDS, "bee"), (Classes((1, 2, 3)), "2")]
)
def test_classes_of_an_npz_are_named_as_the_user_names_them(tmp_path, said, classes, name):
    splits = keras_ddnn.load(npz(tmp_path, pair(TRAIN, classes), pair(TEST, classes)))
    assert splits.classes == classes
    assert splits.class_names[1] == name
    np.testing.assert_array_equal(splits.test.user_labels, classes.decode(TEST.labels))
    held_out = "mine has no validation data: 10 of 96 training images become it"
    assert said() == [classes.mapping, held_out]


def test_a_mapped_dataset_has_the_fingerprint_of_its_numbers(tmp_path):
    mapped = keras_ddnn.load(npz(tmp_path, pair(TRAIN), pair(TEST)))
    plain = (TRAIN.images, TRAIN.labels), (TEST.images, TEST.labels)
    assert mapped.fingerprint() == keras_ddnn.load(npz(tmp_path, *plain)).fingerprint()


def test_a_test_label_that_train_lacks_is_named(tmp_path):
    path = npz(tmp_path, pair(TRAIN), pair(TEST, Classes((10, 20, 40))))
    with pytest.raises(ValueError, match=r"test labels: .* 10, 20, 30, received 40"):
        keras_ddnn.load(path)


def test_two_huge_labels_make_two_classes(tmp_path):
    two = [split.take(split.labels < 2) for split in (TRAIN, TEST)]
    huge = Classes((7, 2_000_000_000))
    splits = keras_ddnn.load(npz(tmp_path, *(pair(split, huge) for split in two)))
    assert splits.class_names == ("7", "2000000000")


# --- artefact and device ------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[TENS, WORDS], ids=["tens", "words"])
def artifact(request, tmp_path_factory):
    """An artefact, its policy and its classes."""
    classes = request.param
    policy = replace(untrained_policy(), classes=classes, class_names=classes.names)
    bank = capture(policy.model, TEST.images, TEST.labels)
    folder = tmp_path_factory.mktemp("mapped") / "artifact"
    save_policy(policy, folder, val_bank=bank)
    return folder, policy, classes


def test_a_loaded_policy_answers_in_the_labels_of_the_user(artifact):
    folder, policy, classes = artifact
    assert read_manifest(folder)["class_values"] == list(classes.values)
    assert f"| classes | {', '.join(classes.names)} |" in (folder / "README.md").read_text()
    loaded = load_policy(folder)
    assert loaded.classes == classes
    answers, _ = loaded.predict(TEST.images)
    np.testing.assert_array_equal(answers, policy.predict(TEST.images)[0])
    assert set(answers.tolist()) <= set(classes.values)


def test_an_artefact_of_numbers_is_as_it_was(toy_policy, tmp_path):
    save_policy(toy_policy, tmp_path / "artifact", graphs=False)
    assert "class_values" not in read_manifest(tmp_path / "artifact")
    assert load_policy(tmp_path / "artifact").classes == Classes.numbered(3)


def test_a_device_answers_and_audits_in_the_labels_of_the_user(artifact):
    folder, policy, classes = artifact
    with FaultServer() as server, EdgeRuntime(folder, server.url, deadline_s=30.0) as runtime:
        runtime.guard = DriftGuard.of(runtime.manifest, gain=0.0, audit_share=1.0)
        labels = classes.decode(TEST.labels).astype(object)
        labels[:10] = None  # not known
        answer = runtime.predict(TEST.images, labels)
        audit = runtime.guard.status()["audit"]
        unknown = "a wolf" if classes is WORDS else 1
        with pytest.raises(ValueError, match=f"{classes.values[2]!r}, received {unknown!r}"):
            runtime.predict(TEST.images[:1], [unknown])
    local = policy.local_model.predict(TEST.images, verbose=0)["local"].argmax(axis=1)
    expected = np.where(answer.offloaded, CLOUD_CLASS, local)
    np.testing.assert_array_equal(answer.classes, classes.decode(expected))
    cost = (TEST.labels == CLOUD_CLASS).astype(int) - (TEST.labels == local)
    assert audit["drop"]["recent"] == pytest.approx(np.mean((~answer.offloaded * cost)[10:]))


@pytest.mark.parametrize("source", ["--images", "--dataset"])
def test_the_command_line_reads_the_labels_of_the_user(artifact, tmp_path, capsys, source):
    folder, policy, classes = artifact
    where = tmp_path / "images"
    if source == "--images":
        for k, (image, label) in enumerate(zip(*pair(TEST, classes))):
            (where / str(label)).mkdir(exist_ok=True, parents=True)
            Image.fromarray(image).save(where / str(label) / f"{k}.png")
    else:
        where = npz(tmp_path, pair(TRAIN, classes), pair(TEST, classes))
    main([str(folder), source, str(where)])
    local = policy.local_model.predict(TEST.images, verbose=0)["local"].argmax(axis=1)
    assert f"{np.mean(local == TEST.labels):.2%}" in capsys.readouterr().out


def test_one_call_leads_from_an_npz_to_answers_in_its_labels(tmp_path):
    splits = keras_ddnn.load(npz(tmp_path, pair(TRAIN), pair(TEST)))
    heads = {"head": HeadConfig(input="logits", epochs=1)}
    _, policy = keras_ddnn.run(splits, SMALL, heads, verbose=0)
    assert policy.class_names == ("10", "20", "30")
    assert set(policy.predict(TEST.images)[0].tolist()) <= {10, 20, 30}
