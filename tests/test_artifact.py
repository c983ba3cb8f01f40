import json
import math
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import flip_a_bit, toy_split
from toy_manifest import changed, forge, removed

from keras_ddnn.config import DDNNConfig, HeadConfig, as_json
from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.deploy.artifact import ARTIFACT_RULES, load_policy, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.blend import Anchor
from keras_ddnn.files.checksums import sha256
from keras_ddnn.files.fields import content as manifest_fields
from keras_ddnn.files.fields import rules as rule_fields
from keras_ddnn.files.manifest import SCHEMA, read_manifest
from keras_ddnn.heads.architectures import build_head
from keras_ddnn.heads.fit import HeadRule
from keras_ddnn.heads.mc_dropout import MCDropout
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.rules.calibration import for_local_fraction
from keras_ddnn.rules.confidence import RULES, Margin, Random
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.training.capture import capture

CONFIG = DDNNConfig(local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,))
IMAGES = np.random.default_rng(0).integers(0, 256, (1000, 16, 16, 3), dtype=np.uint8)


def make_policy(rule="head", anchor=None):
    keras.utils.set_random_seed(0)
    model = build_ddnn((16, 16, 3), 3, CONFIG)
    if rule == "margin":
        return OffloadPolicy(model, CONFIG, Margin(), 0.9, ("a", "b", "c"))
    config = HeadConfig(input="features", anchored=anchor is not None)
    head = HeadRule(build_head((8, 8, 4), config), config, anchor=anchor)
    policy = OffloadPolicy(model, CONFIG, head, 0.0, ("a", "b", "c"))
    scores = head.score(_edge(policy))
    return OffloadPolicy(model, CONFIG, head, float(np.median(scores)), ("a", "b", "c"))


def _edge(policy):
    return capture(policy.model, IMAGES, np.zeros(len(IMAGES), np.int64)).edge


@pytest.fixture(scope="module")
def policy():
    return make_policy()


@pytest.fixture
def folder(policy, tmp_path):
    save_policy(policy, tmp_path / "artifact", {"val_audc": 0.8}, graphs=False)
    return tmp_path / "artifact"


@pytest.fixture(scope="module")
def exported(policy, tmp_path_factory):
    """Return an artefact with all that two machines run, to be read only."""
    labels = np.arange(len(IMAGES)) % 3
    bank = capture(policy.model, IMAGES, labels)
    calibration = for_local_fraction(policy.rule.score(bank.edge), bank, 0.5)
    folder = tmp_path_factory.mktemp("exported") / "artifact"
    save_policy(policy, folder, {"val_audc": 0.8}, val_bank=bank, calibration=calibration)
    return folder


@pytest.mark.slow
def test_a_new_process_repeats_the_decisions_bit_for_bit(policy, folder, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    code = (
        "import sys, numpy as np; from keras_ddnn import load_policy\n"
        "policy = load_policy(sys.argv[1]); images = np.load(sys.argv[2])\n"
        "np.savez(sys.argv[3], decisions=policy.decide(images), classes=policy.predict(images)[0])"
    )
    files = [folder, tmp_path / "images.npy", tmp_path / "out.npz"]
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True, capture_output=True)
    decisions = policy.decide(IMAGES)
    assert 0 < decisions.sum() < len(decisions)
    with np.load(tmp_path / "out.npz") as repeated:
        np.testing.assert_array_equal(repeated["decisions"], decisions)
        np.testing.assert_array_equal(repeated["classes"], policy.predict(IMAGES)[0])


def test_offloaded_samples_get_the_answer_of_the_cloud(policy):
    classes, offloaded = policy.predict(IMAGES)
    outputs = policy.model.predict(IMAGES, verbose=0)
    local, cloud = (outputs[name].argmax(axis=1) for name in ("local", "cloud"))
    agreement = classes == np.where(offloaded, cloud, local)
    assert agreement.mean() > 0.99  # features are rounded to float16 on their way to the cloud
    np.testing.assert_array_equal(offloaded, policy.decide(IMAGES))


def test_a_confidence_rule_is_kept_by_its_name(tmp_path):
    policy = make_policy("margin")
    save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    assert isinstance(loaded.rule, Margin)
    np.testing.assert_array_equal(loaded.decide(IMAGES), policy.decide(IMAGES))


LINEAR = LogitHead(np.eye(5, 2), np.array([0.1, 1 / 3]), input="logits_plus", target="correctness")


@pytest.mark.parametrize(
    "rule",
    [
        Random(seed=7),
        LINEAR,
        LogitHead(
            LINEAR.weights,
            LINEAR.bias,
            input="logits_plus",
            anchor=Anchor("entropy", 0.4, ((1 / 3, 0.1), (-0.2, 1.7))),
        ),
    ],
    ids=["random", "linear", "anchored"],
)
def test_a_rule_is_kept_with_all_that_it_says_of_itself(policy, tmp_path, rule):
    saved = OffloadPolicy(policy.model, CONFIG, rule, 0.5, ("a", "b", "c"))
    save_policy(saved, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    assert loaded.rule.get_config() == rule.get_config()
    edge = _edge(saved)
    np.testing.assert_array_equal(loaded.rule.score(edge), rule.score(edge))


def test_an_older_artefact_of_random_scores_has_its_seed(policy, tmp_path):
    saved = OffloadPolicy(policy.model, CONFIG, Random(), 0.5, ("a", "b", "c"))
    save_policy(saved, tmp_path / "artifact", graphs=False)
    forge(tmp_path / "artifact", lambda manifest: removed(manifest, "rule.seed"))
    assert load_policy(tmp_path / "artifact").rule.seed == 0


def test_monte_carlo_dropout_is_kept_with_its_passes(tmp_path):
    config = replace(CONFIG, local_dropout=0.4)
    model = build_ddnn((16, 16, 3), 3, config)
    rule = MCDropout(model, passes=3, measure="mutual_information", seed=5)
    policy = OffloadPolicy(model, config, rule, 0.01, ("a", "b", "c"))
    save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    assert loaded.rule.multiply_adds == rule.multiply_adds
    images = IMAGES[:50]
    np.testing.assert_array_equal(loaded.rule.score(_edge(loaded)), rule.score(_edge(policy)))
    np.testing.assert_array_equal(loaded.decide(images), policy.decide(images))


def test_a_rule_that_could_not_be_read_again_is_refused(tmp_path):
    class MyRule(Margin):
        pass

    policy = make_policy("margin")
    policy = OffloadPolicy(policy.model, CONFIG, MyRule(), 0.9, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"one of random, entropy.*received MyRule"):
        save_policy(policy, tmp_path / "artifact", graphs=False)
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_an_anchored_head_keeps_its_anchor_and_decides_as_before(tmp_path, weight):
    anchor = Anchor("entropy", weight, ((1 / 3, 0.1), (-0.2, 1.7)))
    policy = make_policy(anchor=anchor)
    save_policy(policy, tmp_path / "artifact", graphs=False)
    loaded = load_policy(tmp_path / "artifact")
    assert loaded.rule.anchor == anchor
    assert bool(loaded.rule.multiply_adds) == bool(weight)
    decisions = policy.decide(IMAGES)
    assert 0 < decisions.sum() < len(decisions)
    np.testing.assert_array_equal(loaded.decide(IMAGES), decisions)


def test_the_manifest_says_what_the_artefact_is(folder, policy):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["class_names"] == ["a", "b", "c"]
    policy = make_policy()
    device = multiply_adds(policy.local_model) + policy.rule.multiply_adds
    assert manifest["metrics"] == {"val_audc": 0.8, "device_multiply_adds": device}
    assert manifest["rule"]["config"]["input"] == "features"
    assert set(manifest["sha256"]) == {"ddnn.weights.h5", "head.weights.h5", "README.md"}
    assert (
        manifest["calibration"] is manifest["plan"] is manifest["features"]["quantisation"] is None
    )


def test_an_artefact_holds_what_two_machines_need(exported):
    manifest = read_manifest(exported)
    assert set(manifest["sha256"]) > {"edge.tflite", "edge_int8.tflite", "cloud/saved_model.pb"}
    assert manifest["features"]["shape"] == [8, 8, 4]
    assert Quantisation.from_json(manifest["features"]["quantisation"]).step > 0
    assert manifest["calibration"]["name"] == "local_fraction"
    plan = manifest["plan"]
    assert [plan[0]["local_fraction"], plan[-1]["local_fraction"]] == [0.0, 1.0]
    assert min(plan, key=lambda row: abs(row["score_threshold"] - manifest["score_threshold"]))[
        "local_fraction"
    ] == pytest.approx(0.5, abs=0.01)


def test_the_model_card_says_what_it_is_how_to_run_it_and_what_it_promises(exported):
    card = (exported / "README.md").read_text()
    for fact in ("16 × 16 × 3", "a, b, c", "256 bytes as codes", "50.0% asked", "serve.edge"):
        assert fact in card


def test_a_rule_that_no_graph_can_hold_is_kept_without_one(policy, tmp_path):
    policy = OffloadPolicy(policy.model, CONFIG, Random(), 0.5, ("a", "b", "c"))
    save_policy(policy, tmp_path / "artifact")
    files = set(read_manifest(tmp_path / "artifact")["sha256"])
    assert "cloud/saved_model.pb" in files
    assert "edge.tflite" not in files
    assert "holds no graph for a device" in (tmp_path / "artifact" / "README.md").read_text()


def test_a_bit_flipped_in_any_file_of_an_artefact_is_noticed(exported, tmp_path):
    files = [file.relative_to(exported) for file in exported.rglob("*") if file.is_file()]
    assert len(files) > 6
    for name in files:
        damaged = shutil.copytree(exported, tmp_path / name.name)
        flip_a_bit(damaged / name)
        with pytest.raises(ValueError, match=f"{name.name}|holds no readable manifest"):
            load_policy(damaged)
        (damaged / name).unlink()
        with pytest.raises(ValueError, match=f"{name.name} is missing|holds no readable manifest"):
            load_policy(damaged)


@pytest.mark.parametrize("name", ["ddnn.weights.h5", "head.weights.h5"])
def test_one_flipped_bit_is_noticed(folder, name):
    flip_a_bit(folder / name)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load_policy(folder)


def test_a_missing_file_is_named(folder):
    (folder / "head.weights.h5").unlink()
    with pytest.raises(ValueError, match=r"head\.weights\.h5 is missing"):
        load_policy(folder)


def test_a_manifest_of_another_schema_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ValueError, match=f"expected schema {SCHEMA}; received 99"):
        load_policy(folder)


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path):
    with pytest.raises(ValueError, match=r"holds no readable manifest\.json"):
        load_policy(tmp_path)


def test_saving_again_replaces_the_artefact_whole(policy, folder):
    save_policy(make_policy("margin"), folder, graphs=False)
    assert not (folder / "head.weights.h5").exists()
    assert isinstance(load_policy(folder).rule, Margin)


OLDER = Path(__file__).parent / "cases" / "schema4"
# Of the images below, as the code that wrote the artefact has classified them.
OFFLOADED_THEN = "000011001101011100111110"
CLASSES_THEN = "000111101101011110111110"


def test_an_artefact_of_schema_4_decides_and_predicts_as_it_did():
    images = toy_split(60, 3).images
    classes, offloaded = load_policy(OLDER).predict(images)
    assert "".join(map(str, classes[:24])) == CLASSES_THEN
    assert "".join(map(str, offloaded.astype(int)[:24])) == OFFLOADED_THEN
    assert offloaded.sum() == 30
    with EdgeRuntime(OLDER) as device:
        np.testing.assert_array_equal(device.predict(images).offloaded, offloaded)
    network, manifest, _ = load_cloud(OLDER)
    assert network(np.zeros((2, *manifest["features"]["shape"]), np.float16)).shape == (2, 3)


WRONG = [
    ("ddnn.local_units", 65536, r"ddnn\.weights\.h5: expected the .* weights of the network"),
    ("ddnn.cloud_units", [60_000, 60_000, 60_000], r"ddnn\.weights\.h5: expected the"),
    ("input_shape", [16384, 4096, 3], r"ddnn\.weights\.h5: expected the"),
    ("input_shape", [8, 8, 3], "no network can be built as described: .*at least 16 pixels"),
    ("ddnn.cloud_filters", [[4]] * 9, "no network can be built as described"),
    ("ddnn.cloud_filters", [[2], [2]], "weights of the network described"),
    ("ddnn.schedule", "sometimes", r"manifest\.json: unknown schedule 'sometimes'; known"),
    ("ddnn.precision", "int1", r"manifest\.json: unknown precision 'int1'"),
    ("ddnn.stages", 1000, "stages must lie in"),
    ("rule.config.input", "smell", r"manifest\.json: unknown head input 'smell'"),
    ("rule.config.architecture", "conv3d", "unknown head architecture"),
    ("rule.input_shape", [8, 8, 1000], r"head\.weights\.h5: expected the"),
    ("rule", {"name": "mc_dropout", "passes": 3, "measure": "x", "seed": 0}, "unknown measure"),
    ("rule", {"name": "margin", "tilt": 1}, "rule: expected no further fields; received 'tilt'"),
    (
        "rule",
        {"name": "logit_head", **LINEAR.get_config(), "input": "x"},
        r"manifest\.json: unknown input",
    ),
    ("rule", {"name": "logit_head", **LINEAR.get_config(), "bias": [1e999, 0.0]}, r"rule\.bias"),
    ("score_threshold", math.nan, "score_threshold: expected a number, not NaN"),
]


@pytest.mark.parametrize(("path", "value", "message"), WRONG)
def test_a_made_up_manifest_is_refused_in_one_line(folder, path, value, message):
    forge(folder, lambda manifest: changed(manifest, path, value))
    with pytest.raises(ValueError, match=message) as refused:
        load_policy(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["ddnn.weights.h5", "head.weights.h5"])
def test_a_file_that_the_manifest_does_not_list_is_not_read(folder, name):
    def unlist(manifest):
        del manifest["sha256"][name]
        return manifest

    forge(folder, unlist)
    with pytest.raises(ValueError, match=f"{name} is not listed"):
        load_policy(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"does not list {name}, which it needs"):
        load_policy(folder)


def test_weights_that_lead_to_another_file_are_refused(folder, tmp_path):
    path = folder / "head.weights.h5"
    shutil.copy(path, tmp_path / "secret.h5")
    with h5py.File(path, "a") as file:
        del file["layers"]
        file["layers"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "layers")
    hashes = {name: sha256(folder / name) for name in read_hashes(folder)}
    forge(folder, lambda manifest: manifest | {"sha256": hashes})
    with pytest.raises(ValueError, match=r"head\.weights\.h5: .*'layers', a link to elsewhere"):
        load_policy(folder)


def read_hashes(folder):
    return json.loads((folder / "manifest.json").read_text())["sha256"]


# Older artefacts lack them.
YOUNGER = ("bottleneck", "class_weight", "optimizer", "label_smoothing")


def test_the_table_of_fields_knows_what_is_written():
    assert set(rule_fields.RULE_NAMES) == set(RULES)
    assert set(rule_fields.RULES) == set(ARTIFACT_RULES)
    for config, shape in (
        (DDNNConfig(bottleneck=4), manifest_fields.DDNN),
        (DDNNConfig(lambda_local="random"), manifest_fields.DDNN),
        (HeadConfig(target="distilled"), rule_fields.HEAD_CONFIG),
    ):
        content = json.loads(json.dumps(as_json(config)))
        shape("config", content)
        for field in fields(config):
            if field.name not in YOUNGER:
                with pytest.raises(ValueError, match=f"config.{field.name}: expected this field"):
                    shape("config", {k: v for k, v in content.items() if k != field.name})
