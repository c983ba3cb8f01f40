"""Both parts of an artefact as ONNX graphs: they compute what LiteRT, SavedModel and Keras do."""

import shutil

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import flip_a_bit, toy_split
from test_artifact import OLDER
from test_signature import write_pair
from toy_networks import network_of

from keras_ddnn.deploy import onnx_graphs
from keras_ddnn.deploy.artifact import load_policy
from keras_ddnn.deploy.onnx_command import main
from keras_ddnn.deploy.onnx_graphs import add_onnx, export_onnx
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.manifest import EDGE_GRAPHS, model_id, read_manifest, sign_artifact
from keras_ddnn.rules.confidence import Margin, Random
from keras_ddnn.rules.recalibration import path_beside
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.training.capture import capture

BOTH = {"device.onnx", "cloud.onnx"}


def run(path, inputs):
    """Return the outputs of an ONNX graph by their names."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs})))


@pytest.fixture(scope="module")
def artifact(toy_artifact, tmp_path_factory):
    """Return an artefact with ONNX graphs, to be read only."""
    folder = tmp_path_factory.mktemp("onnx") / "artifact"
    shutil.copytree(toy_artifact, folder)
    assert {path.name for path in add_onnx(folder)} == BOTH
    return folder


def test_both_parts_equal_litert_and_keras_on_500_images(artifact, toy_policy):
    split = toy_split(500, 5)
    bank = capture(toy_policy.model, split.images, split.labels)
    device = run(artifact / "device.onnx", split.images)
    lite = Interpreter(str(artifact / EDGE_GRAPHS["float"])).get_signature_runner()
    for name, value in lite(images=split.images).items():
        np.testing.assert_allclose(device[name], value, atol=1e-4)
    np.testing.assert_allclose(device["local_logits"], bank.edge.outputs, atol=1e-4)
    np.testing.assert_allclose(device["score"], Margin().score(bank.edge), atol=1e-4)

    features = np.asarray(bank.edge.features)
    cloud = run(artifact / "cloud.onnx", features)
    assert cloud["logits"].dtype == np.float32
    np.testing.assert_allclose(cloud["logits"], bank.cloud_logits, atol=1e-4)
    network, _, _ = load_cloud(artifact)
    np.testing.assert_allclose(cloud["logits"], network(features), atol=1e-4)


def test_the_manifest_lists_the_graphs_and_the_rest_is_as_it_was(artifact, toy_artifact):
    before, after = read_manifest(toy_artifact), read_manifest(artifact)
    assert after["sha256"].keys() - before["sha256"].keys() == BOTH
    assert {k: v for k, v in after["sha256"].items() if k not in BOTH} == before.pop("sha256")
    assert {k: v for k, v in after.items() if k != "sha256"} == before
    assert model_id(artifact) != model_id(toy_artifact)
    images = toy_split(50, 6).images
    for one, other in zip(
        load_policy(artifact).predict(images), load_policy(toy_artifact).predict(images)
    ):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_graph_is_noticed(artifact, tmp_path):
    shutil.copytree(artifact, tmp_path / "copy")
    flip_a_bit(tmp_path / "copy" / "cloud.onnx")
    with pytest.raises(ValueError, match=r"cloud\.onnx"):
        load_policy(tmp_path / "copy")


def test_the_command_leaves_no_signature_that_does_not_hold(toy_artifact, tmp_path, capsys):
    folder = tmp_path / "artifact"
    shutil.copytree(toy_artifact, folder)
    private, public = write_pair(tmp_path, "ours")
    sign_artifact(folder, private)
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "expected the private key" in said
    assert not read_manifest(folder, public)["sha256"].keys() & BOTH  # as it was
    assert main([str(tmp_path), "--sign", str(private)]) == 0
    files = capsys.readouterr().out.splitlines()
    assert files == [str(folder / name) for name in ("cloud.onnx", "device.onnx")]
    assert read_manifest(folder, public)["sha256"].keys() >= BOTH


@pytest.mark.parametrize(
    "kind",
    ["tables cut", "tokens chained", pytest.param("images coded", marks=pytest.mark.slow)],
)
def test_networks_of_other_inputs_are_exported_too(kind, tmp_path):
    network, data, _ = network_of(kind)
    inputs, labels = data(60)
    inputs = inputs.astype(network.reads.dtype)
    policy = OffloadPolicy(network, None, Margin(), 0.5, ("a", "b", "c"))
    bank = capture(network, inputs, labels)
    export_onnx(policy, tmp_path)
    device = run(tmp_path / "device.onnx", inputs)
    np.testing.assert_allclose(device["score"], Margin().score(bank.edge), atol=1e-4)
    sent = network.tiers[0].sent_dtype
    cloud = run(
        tmp_path / "cloud.onnx", np.asarray(bank.edge.features if sent == "float16" else inputs)
    )
    np.testing.assert_allclose(cloud["logits"], bank.cloud_logits, atol=1e-4)


def test_an_artefact_of_an_older_schema_gets_graphs_and_decides_as_before(tmp_path, caplog):
    shutil.copytree(OLDER, tmp_path / "artifact")
    path_beside(tmp_path / "artifact").write_text("{}")
    add_onnx(tmp_path)
    assert "recalibration beside the artefact is of its former id: recalibrate" in caplog.text
    images = toy_split(60, 3).images
    policy = load_policy(OLDER)
    device = run(tmp_path / "artifact" / "device.onnx", images)
    np.testing.assert_array_equal(device["score"] >= policy.score_threshold, policy.decide(images))
    for one, other in zip(
        load_policy(tmp_path / "artifact").predict(images), policy.predict(images)
    ):
        np.testing.assert_array_equal(one, other)


def test_a_rule_that_no_graph_can_hold_leaves_the_cloud_s_graph(toy_policy, tmp_path):
    fields = toy_policy.config, Random(), 0.5, ("a", "b", "c")
    (path,) = export_onnx(OffloadPolicy(toy_policy.model, *fields), tmp_path)
    assert path.name == "cloud.onnx"


def test_a_conversion_that_computes_something_else_is_refused(toy_artifact, tmp_path, monkeypatch):
    folder = tmp_path / "artifact"
    shutil.copytree(toy_artifact, folder)
    convert = onnx_graphs._converted

    def halved(part, function):
        def half(features):
            return {"logits": function(features)["logits"] / 2}

        wrong = onnx_graphs.tf.function(half, input_signature=function.input_signature)
        return convert(part, wrong)

    monkeypatch.setattr(onnx_graphs, "_converted", halved)
    with pytest.raises(ValueError, match="expected logits of the cloud network in ONNX Runtime"):
        add_onnx(folder)
    assert not BOTH & read_manifest(folder)["sha256"].keys()  # and nothing else is left there
