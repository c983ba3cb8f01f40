"""Networks of several cameras: what is absent is left out, from training to the device."""

import json
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_ddnn import pipeline
from keras_ddnn.config import HeadConfig
from keras_ddnn.data.bank import Bank
from keras_ddnn.data.splits import Split, Splits, pictures
from keras_ddnn.deploy.artifact import load_policy, save_policy
from keras_ddnn.deploy.export import export_cloud
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.curves import OffloadCurve
from keras_ddnn.evaluation.missing_views import missing_views, without_views
from keras_ddnn.evaluation.payload import Payload, png_bytes
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.networks.architectures.named_models import as_network
from keras_ddnn.networks.architectures.view_layers import AbsentViews, Aggregation
from keras_ddnn.networks.architectures.views import ViewsOptions, build_views
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.serve.cloud.metrics import CloudMetrics
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.edge.telling.view import read_images
from keras_ddnn.training.batches import augmentation
from keras_ddnn.training.fit import fit_ddnn

SHAPE, CLASSES = (2, 16, 16, 1), 3
SMALL = ViewsOptions(filters=(2,), cloud_filters=(4,), cloud_units=(8,))
RECIPE = {"epochs": 4, "batch_size": 30, "learning_rate": 0.02, "verbose": 0}


def data(n, seed=0):
    """Return frames of two cameras, brighter the higher the class; some cameras are absent."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % CLASSES
    frames = rng.normal(60 + 60 * labels[:, None, None, None, None], 40, (n, *SHAPE))
    frames = frames.clip(1, 255).astype(np.uint8)
    frames[rng.random(n) < 0.2, rng.integers(2)] = 0
    return frames, labels


def model(seed=0, shape=SHAPE, **options):
    keras.utils.set_random_seed(seed)
    return build_views(shape, CLASSES, replace(SMALL, **options), "float32")


@pytest.fixture(scope="module")
def fitted():
    return fit_ddnn(data(150), data(60, 1), network=model(), **RECIPE)


@pytest.fixture(scope="module")
def served(fitted, tmp_path_factory):
    """Return a policy whose rule is a trained head, and the folder of its artefact."""
    head = fit_head(fitted, HeadConfig(epochs=1), verbose=0)
    threshold = float(np.median(head.score(fitted.val_bank.edge)))
    policy = OffloadPolicy(fitted.cascade, None, head, threshold, ("a", "b", "c"))
    folder = tmp_path_factory.mktemp("views") / "artifact"
    save_policy(policy, folder, val_bank=fitted.val_bank)
    return policy, folder


# --- aggregation ------------------------------------------------------------------------------

# Scores of two classes by three devices, side by side; the second device is absent in the first
# sample, and all are in the last.
SCORES = np.float32([[-3, 5, 0, 0, -1, 2], [1, 2, 4, -6, 1, 1], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("max", [[-1, 5], [4, 2], [0, 0]]),
        ("mean", [[-2, 3.5], [2, -1], [0, 0]]),
        ("concatenation", SCORES),
    ],
)
def test_absent_devices_are_left_out_of_the_scores_of_the_others(how, expected):
    np.testing.assert_array_equal(Aggregation(how, 3)(SCORES), expected)


def test_maps_are_combined_place_by_place_and_zeros_of_a_device_that_is_there_count():
    maps = np.zeros((1, 1, 2, 4), np.float32)  # two devices of two channels, at two places
    maps[0, 0] = [2, 4, 6, 0], [8, 0, 0, 0]
    np.testing.assert_array_equal(Aggregation("mean", 2)(maps)[0, 0], [[4, 2], [4, 0]])
    maps[..., 2:] = 0
    np.testing.assert_array_equal(Aggregation("mean", 2)(maps)[0, 0], [[2, 4], [8, 0]])


@pytest.mark.parametrize("how", ["max", "mean"])
def test_a_network_of_one_camera_that_is_left_says_what_that_camera_says(how):
    network = model(local=how, cloud=how)
    frames = data(6)[0]
    frames[:, 0] = 0
    alone = network.get_layer("device1_score").output
    alone = keras.Model(network.input, alone)(frames)
    np.testing.assert_allclose(network(frames)["local"], alone, atol=1e-6)


def test_a_network_that_sees_nothing_says_zeros_and_sends_zeros():
    black = np.zeros((2, *SHAPE), np.uint8)
    for how in ("max", "mean"):
        network = model(local=how)
        local, _ = as_cascade(network).folded().tiers
        said = local.model(black)
        assert not np.any(said["outputs"])
        assert not np.any(said["features"])


# --- masking in training ----------------------------------------------------------------------


def test_masking_blackens_whole_frames_at_its_rate_and_never_all():
    frames = np.full((4000, 3, 2, 2, 1), 9, np.uint8)
    frames[:1000, 1:] = 0  # one camera is there: it stays
    seen = np.asarray(AbsentViews(0.4)(frames, training=True))
    there = (seen > 0).any(axis=(2, 3, 4))
    assert set(np.unique(seen)) == {0, 9}
    assert there.any(axis=1).all()
    assert there[:1000, 0].all()
    np.testing.assert_array_equal(there, (seen > 0).all(axis=(2, 3, 4)))  # frames are whole
    assert not there[:1000, 1:].any()
    # Of three cameras all are drawn with 0.4³; then one of them stays.
    absent = 1 - there[1000:].mean()
    assert absent == pytest.approx(0.4 - 0.4**3 / 3, abs=0.02)


def test_frames_are_as_they_came_where_nothing_is_trained_or_masked():
    frames = data(4)[0]
    np.testing.assert_array_equal(AbsentViews(0.4)(frames), frames)
    np.testing.assert_array_equal(AbsentViews(0.0)(frames, training=True), frames)


def test_each_frame_is_augmented_on_its_own_and_black_frames_stay_black():
    frames = data(60)[0]
    seed = tf.constant([0, 0], tf.int64)
    seen = augmentation("crop_flip_cutout")(tf.constant(frames), seed).numpy()
    black = ~frames.any(axis=(2, 3, 4))
    assert black.any()
    assert not seen[black].any()
    both = frames.copy()
    both[:, 1] = both[:, 0]
    seen = augmentation("crop_flip")(tf.constant(both), seed).numpy()
    assert (seen[:, 0] != seen[:, 1]).any()


# --- the network ------------------------------------------------------------------------------


def test_the_name_makes_a_network_of_as_many_cameras_as_the_data_have():
    network = as_network("views", shape=(3, 32, 32, 1), classes=5)
    local, _ = network.tiers
    assert local.model.output["features"].shape == (None, 8, 8, 3 * 4)
    assert {name: out.shape for name, out in network.model.output.items()} == {
        "local": (None, 5),
        "cloud": (None, 5),
    }


def test_multiply_adds_agree_with_hand_arithmetic():
    local, cloud = as_cascade(model()).tiers
    device = 16 * 16 * 9 * 1 * 2 + (8 * 8 * 2) * 3
    assert multiply_adds(local.model) == 2 * device
    assert multiply_adds(cloud.model) == 8 * 8 * 9 * 4 * 4 + (4 * 4 * 4) * 8 + 8 * 3


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((16, 16, 1), {}, r"\(camera, height, width, channels\).*received \(16, 16, 1\)"),
        ((2, 16, 3, 1), {}, r"at least 8 pixels.*received \(2, 16, 3, 1\)"),
        (SHAPE, {"filters": (4, 3)}, r"the last of them even.*received \(4, 3\)"),
        (SHAPE, {"filters": 16}, "filters: expected a tuple of positive integers, received 16"),
        (SHAPE, {"cloud": "sum"}, "unknown cloud 'sum'; known: max, mean, concatenation"),
        (SHAPE, {"absent": -0.1}, r"absent must lie in \[0, 1\]; received -0.1"),
        (SHAPE, {"absent": 1.0}, "absent: expected less than 1, .*, received 1.0"),
    ],
)
def test_what_makes_no_network_is_refused_in_one_line(shape, options, words):
    with pytest.raises(ValueError, match=words) as error:
        build_views(shape, CLASSES, ViewsOptions(**options | {"cloud_filters": (4,)}))
    assert "\n" not in str(error.value)


def test_data_of_other_cameras_are_refused_before_any_training():
    frames, labels = data(30)
    with pytest.raises(ValueError, match=r"shape \(2, 16, 16, 1\); the data have \(1, 16"):
        fit_ddnn((frames[:, :1], labels), network=model(), **RECIPE)
    with pytest.raises(ValueError, match="of several cameras pass network='views'"):
        fit_ddnn((frames, labels), **RECIPE)


# --- from training to the device --------------------------------------------------------------


def test_a_network_of_cameras_learns_and_its_head_has_a_curve(fitted, served):
    policy, _ = served
    curve = OffloadCurve.from_scores(policy.rule.score(fitted.val_bank.edge), fitted.val_bank)
    assert curve.at(0.0) == pytest.approx(fitted.val_bank.cloud_correct.mean())
    assert curve.at(1.0) == pytest.approx(fitted.val_bank.local_correct.mean())
    assert fitted.val_bank.local_correct.mean() > 0.5


@pytest.mark.slow
def test_a_convolution_head_reads_the_frames_of_all_cameras(fitted):
    config = HeadConfig(input="image", architecture="conv", epochs=1, precision="float32")
    head = fit_head(fitted, config, verbose=0).model
    assert head.input_shape[1:] == SHAPE
    frames = data(4)[0]
    both = np.moveaxis(frames[..., 0], 1, -1) / 127.5 - 1.0  # (n, h, w, camera)
    np.testing.assert_allclose(
        keras.Model(head.input, head.get_layer("together").output)(frames), both, atol=1e-6
    )


def test_a_device_answers_as_the_policy_in_memory_whoever_is_absent(served):
    policy, folder = served
    frames = np.concatenate([data(60, 2)[0], np.zeros((1, *SHAPE), np.uint8)])
    expected = policy.rule.score(capture_of(policy, frames).edge)
    offloaded = policy.predict(frames)[1]
    with EdgeRuntime(folder) as device:
        answer = device.predict(frames)
    np.testing.assert_allclose(answer.scores, expected, atol=1e-4)
    np.testing.assert_array_equal(answer.offloaded, offloaded)
    with EdgeRuntime(folder, graph="int8") as device:
        assert np.mean(device.predict(frames).offloaded == offloaded) > 0.9


@pytest.mark.parametrize("cloud", ["max", "mean"])
def test_a_cloud_of_any_aggregation_is_one_that_a_service_loads(cloud, tmp_path):
    policy = OffloadPolicy(as_cascade(model(cloud=cloud)), None, Margin(), 0.5, ("a", "b", "c"))
    export_cloud(policy, tmp_path / "cloud")  # raises where its graph would be refused


def capture_of(policy, frames) -> Bank:
    from keras_ddnn.training.capture import capture

    return capture(policy.cascade, frames, np.zeros(len(frames), np.int64))


def test_an_artefact_of_cameras_is_what_was_saved_and_says_what_it_reads(served, tmp_path):
    policy, folder = served
    frames, labels = data(20, 3)
    for there, here in zip(load_policy(folder).predict(frames), policy.predict(frames)):
        np.testing.assert_array_equal(there, here)
    assert "2 × 16 × 16 × 1 (cameras × height × width × channels)" in read(folder / "README.md")
    manifest = read_manifest(folder)
    assert manifest["features"]["lossless"]  # its codes hold what absent cameras send, too
    np.savez(tmp_path / "toy.npz", x_train=frames, y_train=labels, x_test=frames, y_test=labels)
    given, _ = read_images(None, str(tmp_path / "toy.npz"), manifest)
    np.testing.assert_array_equal(given, frames)
    with pytest.raises(ValueError, match=r"reads 2 cameras.*expected --dataset"):
        read_images(str(tmp_path), None, manifest)


def read(path) -> str:
    return path.read_text(encoding="utf-8")


def test_bytes_are_those_of_all_cameras(fitted):
    payload = Payload.of(fitted.val_bank.edge, fitted.cascade.quantisation)
    assert payload.sent == 2 * (8 * 8 * 2) // 2  # two codes in a byte
    assert payload.image == 2 * 16 * 16
    frames = data(1)[0][0]
    assert png_bytes(frames) == png_bytes(frames[0]) + png_bytes(frames[1])


def test_frames_are_shown_side_by_side():
    frames = data(3)[0]
    page = CloudMetrics()
    page.show(frames, ["a", "b", "c"])
    assert [tuple(image["shape"]) for image in page.as_json()["images"]] == 3 * [(16, 32, 1)]
    np.testing.assert_array_equal(pictures(frames)[1], np.concatenate([*frames[1]], axis=1))
    np.testing.assert_array_equal(pictures(frames[:, 0]), frames[:, 0])


# --- absent cameras in the report -------------------------------------------------------------


def by_brightness(split) -> Bank:
    """Return a bank whose local tier is right where camera 0 is there, and whose cloud always."""
    there = np.asarray(split.images)[:, 0].any(axis=(1, 2, 3))
    right = 2 * np.eye(CLASSES, dtype=np.float32)[split.labels]
    return Bank.from_outputs({"local": right * there[:, None], "cloud": right}, split.labels)


def test_fewer_cameras_than_the_network_has_are_refused_with_the_remedy(fitted):
    frames = np.ones((4, 1, 16, 16, 1), np.uint8)
    split = Split(frames, np.zeros(4, np.int64), fitted.classes)
    with pytest.raises(ValueError, match=r"shape of \(n, 2, 16, 16, 1\); give frames of zeros"):
        fitted.capture(split)


def test_the_worst_absent_camera_is_named():
    frames = np.full((6, 3, 16, 16, 1), 5, np.uint8)
    split = Split(frames, np.array([1, 2, 1, 2, 1, 2]))
    table = missing_views(by_brightness, split)
    expected = pd.DataFrame(
        {
            "missing": [0, 1, 2],
            "choices": [1, 3, 3],
            "local_accuracy": [1.0, 2 / 3, 1 / 3],
            "local_worst": [1.0, 0.0, 0.0],
            "local_worst_choice": ["", "0", "0+1"],
            "cloud_accuracy": [1.0, 1.0, 1.0],
            "cloud_worst": [1.0, 1.0, 1.0],
            "cloud_worst_choice": ["", "0", "0+1"],
        }
    )
    pd.testing.assert_frame_equal(table, expected)
    assert (frames == 5).all()  # the user's frames stay as they are


def test_frames_are_blackened_row_by_row():
    frames = data(5)[0]
    black = without_views(frames, [1])
    np.testing.assert_array_equal(np.asarray(black[np.array([3, 1])])[:, 0], frames[[3, 1], 0])
    assert not np.asarray(black[1:4])[:, 1].any()


@pytest.mark.parametrize(
    ("images", "counts", "words"),
    [
        (np.zeros((4, 16, 16, 3), np.uint8), None, r"camera, height.*received uint8 of shape \(4,"),
        (np.zeros((4, *SHAPE), np.uint8), (0, 2), r"absent cameras in 0\.\.1, received \(0, 2\)"),
        (np.zeros((4, *SHAPE), np.uint8), 3, r"a list of .* in 0\.\.1, received 3"),
        (np.zeros((4, *SHAPE), np.uint8), [(0,), (1,)], r"a list of .*, received \[\(0,\), \(1,"),
    ],
)
def test_what_has_no_cameras_to_miss_is_refused_in_one_line(images, counts, words):
    with pytest.raises(ValueError, match=words):
        missing_views(by_brightness, Split(images, np.array([0, 1, 0, 1])), counts)


@pytest.mark.slow
def test_the_report_of_a_run_tells_of_absent_cameras(fitted, monkeypatch):
    monkeypatch.setattr(pipeline, "fit_ddnn", lambda *_, **__: fitted)  # trained above
    parts = (Split(*data(n, seed)) for n, seed in ((60, 0), (30, 1), (30, 2)))
    splits = Splits("toy", *parts, ("a", "b", "c"))
    report, _ = pipeline.run(splits, "paper", {"head": HeadConfig(epochs=1)}, network=model())
    rows = json.loads(json.dumps(report.facts["missing_views"]))
    assert [(row["missing"], row["choices"]) for row in rows] == [(0, 1), (1, 2)]
    assert rows[0]["local_accuracy"] == pytest.approx(report.facts["local_accuracy"])


def test_an_array_of_counts_is_as_good_as_a_list():
    frames = np.full((4, *SHAPE), 5, np.uint8)
    table = missing_views(by_brightness, Split(frames, np.array([0, 1, 0, 1])), np.array([0, 1]))
    assert list(table["missing"]) == [0, 1]
    table = missing_views(by_brightness, Split(frames, np.array([0, 1, 0, 1])), iter([0, 1]))
    assert list(table["missing"]) == [0, 1]
    assert ViewsOptions(filters=iter([4, 6])).filters == (4, 6)
    assert ViewsOptions(filters=np.array([4, 6])).filters == (4, 6)
