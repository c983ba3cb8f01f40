from dataclasses import replace

import numpy as np
import pytest

import keras_ddnn
from keras_ddnn import DDNNConfig, HeadConfig
from keras_ddnn.files.manifest import EDGE_GRAPHS, read_manifest

SMALL = DDNNConfig(
    local_filters=4, cloud_filters=((8,), (16,)), cloud_units=(16,), epochs=3, batch_size=16
)


def test_one_call_leads_from_data_to_a_report_and_a_policy(toy_splits, tmp_path):
    heads = {
        "plus": HeadConfig(input="logits_plus", epochs=2, labels="stage_averaged"),
        "features": HeadConfig(input="features", epochs=2, anchored=True),
    }
    report, policy = keras_ddnn.run(
        toy_splits, SMALL, heads, local_fraction=0.4, artifact=tmp_path / "artifact", verbose=0
    )

    rules = {"random", "entropy", "max_prob", "margin", "oracle", "plus", "features"}
    assert set(report.table["rule"]) == rules == set(report.curves.columns)
    assert report.table["rule"].iloc[0] == "oracle"
    assert (report.curves.iloc[0] == report.facts["cloud_accuracy"]).all()
    assert (report.curves.iloc[-1] == report.facts["local_accuracy"]).all()
    payload = report.facts["payload"]
    assert (payload["image"], payload["sent"]) == (16 * 16 * 3, 8 * 8 * 4 * 2)
    offloaded = 1.0 - report.table["realised_local_fraction"]
    np.testing.assert_allclose(report.table["bytes_sent"], offloaded * 8 * 8 * 4 * 2)
    np.testing.assert_allclose(report.table["bytes_image"], offloaded * 16 * 16 * 3)
    assert report.classes["class"].drop_duplicates().tolist() == list(toy_splits.class_names)
    for rule, rows in report.classes.groupby("rule"):
        row = report.table.set_index("rule").loc[rule]
        # The classes together are the whole.
        assert np.average(rows["accuracy"], weights=rows["samples"]) == pytest.approx(
            row["accuracy"]
        )
        assert row["balanced_accuracy"] == pytest.approx(rows["accuracy"].mean())
        local = np.average(rows["local_fraction"], weights=rows["samples"])
        assert local == pytest.approx(row["realised_local_fraction"])
    assert report.facts["ddnn"]["stages"] == 3  # all there are, for the labels of "plus"
    assert policy.decide(toy_splits.test.images).shape == (60,)
    manifest = read_manifest(tmp_path / "artifact")
    assert manifest["score_threshold"] == policy.score_threshold
    assert set(EDGE_GRAPHS.values()) < set(manifest["sha256"])


@pytest.mark.slow
def test_behind_a_bottleneck_a_policy_answers_from_codes_alone(toy_splits, tmp_path):
    narrow = replace(SMALL, bottleneck=2, epochs=1)
    heads = {"head": HeadConfig(epochs=1)}
    reading = {"fit": "pad_to_aspect_ratio", "background": [7, 7, 7], "scale": 1000.0}
    splits = replace(toy_splits, reading=reading)
    report, policy = keras_ddnn.run(splits, narrow, heads, verbose=0)
    assert report.facts["payload"]["sent"] == 4 * 4 * 2 // 2  # two codes a byte
    keras_ddnn.save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = keras_ddnn.load_policy(tmp_path / "artifact")
    assert loaded.reading == reading
    images = toy_splits.test.images
    for there, here in zip(loaded.predict(images), policy.predict(images)):
        np.testing.assert_array_equal(there, here)


@pytest.mark.slow
def test_the_embedded_dataset_shows_the_trade_off():
    splits = keras_ddnn.load("cluttered_digits")
    fitted = keras_ddnn.fit_ddnn(splits.train, splits.val, "quickstart", verbose=0)
    test = fitted.capture(splits.test)
    local, cloud = np.mean(test.local_correct), np.mean(test.cloud_correct)
    assert cloud >= 0.85
    assert cloud - local >= 0.15
