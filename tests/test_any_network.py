"""From training to two machines, any network goes the way of the paper's, and no code with it."""

import json
import shutil
from pathlib import Path
from urllib.request import urlopen

import keras
import numpy as np
import pytest
from conftest import toy_split
from keras import layers
from toy_manifest import changed, forge, removed
from toy_networks import KINDS, RECIPE, image_data, image_model, network_of, table_data, table_model
from toy_service import Server

from keras_ddnn.config import DDNNConfig, HeadConfig
from keras_ddnn.data.splits import Split, Splits
from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.artifact import load_policy, require_keepable, save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.evaluation.payload import Payload
from keras_ddnn.files.checksums import files_of, sha256
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.heads.fit import fit_head
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.networks.architectures.named_models import as_network
from keras_ddnn.networks.cascade import Cascade
from keras_ddnn.networks.compose import chain, split
from keras_ddnn.networks.weights import describe, from_description, rebuild
from keras_ddnn.pipeline import run
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.edge.telling.view import read_images
from keras_ddnn.training.capture import capture
from keras_ddnn.training.fit import fit_ddnn

CLOSE = 1e-4  # of a score to the threshold, where two machines may decide otherwise


SLOW = ("tokens cut", "tables cut", "images cut-coded")  # as long as others, and no other way


@pytest.fixture(
    scope="module",
    params=[pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in KINDS],
)
def served(request, tmp_path_factory):
    """Return a policy of a network of a kind, its artefact, inputs and the bytes it sends."""
    network, data, size = network_of(request.param)
    rule, (inputs, labels) = Margin(), data(60, 1)
    inputs = inputs.astype(network.reads.dtype)
    if request.param == "tables cut":
        fitted = fit_ddnn(data(60), (inputs, labels), network=network, **RECIPE)
        rule = fit_head(fitted, HeadConfig(input="features", epochs=1))
        network = fitted.cascade
    bank = capture(network, inputs, labels)
    if request.param == "tokens cut":
        rule = LogitHead.fit(bank, anchored=False)
    threshold = float(np.median(rule.score(bank.edge)))
    policy = OffloadPolicy(network, None, rule, threshold, ("a", "b", "c"))
    folder = tmp_path_factory.mktemp("any") / "artifact"
    save_policy(policy, folder, val_bank=bank)
    return policy, folder, inputs, size


def test_an_artefact_answers_as_the_policy_that_was_saved(served):
    policy, folder, inputs, _ = served
    loaded = load_policy(folder)
    for there, here in zip(loaded.predict(inputs), policy.predict(inputs)):
        np.testing.assert_array_equal(there, here)


def test_two_machines_answer_as_the_policy_in_memory(served):
    policy, folder, inputs, size = served
    network, manifest, identity = load_cloud(folder)
    with Server(make_app(network, manifest, identity=identity)) as port:
        url = f"http://127.0.0.1:{port}"
        with EdgeRuntime(folder, url, deadline_s=30.0) as device:
            answer = device.predict(inputs)
            assert device.requests.sample_bytes == size
        with EdgeRuntime(folder, url, graph="int8", deadline_s=30.0) as coarse:
            assert not coarse.predict(inputs).fallback.any()
    classes, offloaded = policy.predict(inputs)
    assert 0 < offloaded.sum() < len(offloaded)
    assert not answer.fallback.any()
    scores = policy.rule.score(capture(policy.cascade, inputs, np.zeros(len(inputs), int)).edge)
    np.testing.assert_allclose(answer.scores, scores, atol=CLOSE)
    far = np.abs(answer.scores - policy.score_threshold) > CLOSE
    np.testing.assert_array_equal(answer.offloaded[far], offloaded[far])
    np.testing.assert_array_equal(answer.classes[far], classes[far])
    assert far.mean() > 0.9


def test_the_model_card_says_what_is_read_and_what_travels(served):
    _, folder, _, size = served
    card = (folder / "README.md").read_text()
    manifest = read_manifest(folder)
    assert f"{manifest['input_dtype']}, {' × '.join(map(str, manifest['input_shape']))}" in card
    assert f"{size:,} bytes" in card
    assert ("as they came" in card) == manifest["features"]["are_inputs"]


@pytest.fixture(scope="module")
def chained(tmp_path_factory):
    """Return the artefact of two models of images in a chain, untrained, to be read only."""
    network, _, _ = network_of("images chained")
    policy = OffloadPolicy(network, None, Margin(), 0.5, ("a", "b", "c"))
    folder = tmp_path_factory.mktemp("chain") / "artifact"
    save_policy(policy, folder)
    return folder


@pytest.mark.slow
def test_images_that_travel_are_sent_once_though_they_are_shown(chained):
    network, manifest, identity = load_cloud(chained)
    app = make_app(network, manifest, identity=identity)
    with (
        Server(app) as port,
        EdgeRuntime(
            chained, f"http://127.0.0.1:{port}", share_images=True, deadline_s=30.0
        ) as device,
    ):
        device.score_threshold = -np.inf
        images = toy_split(3, 0).images
        assert not device.predict(images).fallback.any()
        assert device.requests.sample_bytes == 16 * 16 * 3
        with urlopen(f"http://127.0.0.1:{port}/state") as answer:
            assert json.load(answer)["images"][0]["shape"] == [16, 16, 3]


def test_inputs_that_are_no_images_are_not_shared(tmp_path):
    network, _, _ = network_of("tables cut")
    save_policy(OffloadPolicy(network, None, Margin(), 0.5, ("a", "b", "c")), tmp_path / "artifact")
    with pytest.raises(ValueError, match=r"reads images; received one that reads float32"):
        EdgeRuntime(tmp_path / "artifact", share_images=True)
    with EdgeRuntime(tmp_path / "artifact") as device:
        with pytest.raises(ValueError, match=r"expected float32 inputs of shape \(n, 6\)"):
            device.predict(toy_split(3, 0).images)
        manifest = device.manifest
    with pytest.raises(ValueError, match=r"no images: expected --dataset FILE.npz .*received x"):
        read_images("x", None, manifest, channels=3)
    arrays = {f"{k}_{s}": v for s in ("train", "test") for k, v in zip("xy", table_data(9))}
    np.savez(tmp_path / "table.npz", **arrays)
    inputs, labels = read_images(None, tmp_path / "table.npz", manifest, 5, channels=3)
    assert (inputs.dtype, inputs.shape, labels.tolist()) == ("float32", (5, 6), [0, 1, 2, 0, 1])


# --- what is kept ---------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="somebody")
class Twice(layers.Layer):
    """A layer whose code no artefact can hold."""

    def call(self, inputs):
        """Return twice the inputs."""
        return 2 * inputs


def of_somebody() -> Cascade:
    table = keras.Input((6,))
    x = Twice(name="twice")(layers.Dense(4, name="hidden")(table))
    return split(keras.Model(table, layers.Dense(3)(x)), "hidden")


def test_a_layer_that_needs_its_own_code_is_told_of_before_training(caplog, tmp_path, monkeypatch):
    said = r"layers of Keras alone, .*received 'somebody>Twice' in 'twice'"
    with pytest.raises(ValueError, match=said):
        require_keepable(of_somebody())
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it was trained"))
    split_of = Split(*table_data(30))
    splits = Splits("toy", split_of, split_of, split_of, ("a", "b", "c"))
    with pytest.raises(ValueError, match=said):
        run(splits, network=of_somebody(), artifact=tmp_path / "artifact", verbose=0)
    monkeypatch.undo()
    fit_ddnn(table_data(30), network=of_somebody(), **RECIPE)
    assert "cannot be saved as an artefact" in caplog.text
    assert "'twice'" in caplog.text


def test_a_loop_that_no_device_runs_is_told_of_before_training():
    tokens = keras.Input((8,), dtype="int32")
    x = layers.LSTM(3, return_sequences=True, name="lstm")(layers.Embedding(9, 2)(tokens))
    model = keras.Model(tokens, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    with pytest.raises(ValueError, match="holds a loop; give its recurrent layers unroll=True"):
        require_keepable(split(model, "lstm"))


@pytest.mark.slow
def test_one_call_leads_from_any_network_to_an_artefact(tmp_path):
    network, data, size = network_of("tables chained")
    parts = [Split(data(60, k)[0].astype(np.float32), data(60, k)[1]) for k in range(3)]
    splits = Splits("toy", *parts, ("a", "b", "c"))
    head = {"head": HeadConfig(epochs=1)}
    recipe = {"network": network, "artifact": tmp_path / "artifact", "verbose": 0}
    report, policy = run(splits, DDNNConfig(epochs=1, batch_size=16), head, **recipe)
    assert report.facts["payload"]["sent"] == size
    loaded = load_policy(tmp_path / "artifact")
    decisions = policy.decide(splits.test.images)
    np.testing.assert_array_equal(loaded.decide(splits.test.images), decisions)


def rehash(folder: Path) -> None:
    """Make the hashes right again, as anyone can."""
    hashes = {name: sha256(file) for name, file in files_of(folder).items()}
    del hashes["manifest.json"]
    forge(folder, lambda manifest: manifest | {"sha256": hashes})


def edit(folder: Path, change) -> None:
    """Change what an artefact says of its network, with hashes that are right."""
    path = folder / "network.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    rehash(folder)


def instead(layer):
    """Return what puts another description in the place of the second layer."""

    def change(content):
        content["layers"][1] = content["layers"][1] | layer
        return content

    return change


MADE_UP = [
    (instead({"class_name": "Lambda"}), "received 'Lambda'"),
    (instead({"class_name": "TFSMLayer"}), "received 'TFSMLayer'"),
    (instead({"class_name": "IntegerLookup"}), "received 'IntegerLookup'"),
    (instead({"module": "os", "class_name": "system"}), "received 'system'"),
    (instead({"module": "keras.utils", "class_name": "get_file"}), "received 'get_file'"),
    (instead({"class_name": "function", "module": "builtins"}), "received 'function'"),
    (instead({"class_name": "__lambda__", "module": None}), "received '__lambda__'"),
    (instead({"registered_name": "somebody>Twice"}), "received 'somebody>Twice'"),
    (lambda content: {}, "no network can be built as described"),
    (lambda content: [], "describes no network"),
    (lambda content: content | {"output_layers": ["local", 0, 0]}, "no network|local"),
]


@pytest.mark.parametrize(("change", "message"), MADE_UP)
def test_a_made_up_network_is_refused_in_one_line(chained, tmp_path, change, message):
    folder = shutil.copytree(chained, tmp_path / "artifact")
    edit(folder, change)
    with pytest.raises(ValueError, match=message) as refused:
        load_policy(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network.sent", ["nowhere"], "describes no network that sends 'nowhere'"),
        ("class_names", ["a", "b"], "the manifest expects .*'cloud': 2.*received .*'cloud': 3"),
        ("network", None, "ddnn: expected an object with named fields; received None"),
    ],
)
def test_a_network_that_is_not_the_manifest_s_is_refused(chained, tmp_path, path, value, message):
    folder = shutil.copytree(chained, tmp_path / "artifact")
    forge(folder, lambda manifest: changed(manifest, path, value))
    with pytest.raises(ValueError, match=message) as refused:
        load_policy(folder)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_an_artefact_of_schema_5_is_read(toy_artifact, toy_policy, tmp_path):
    folder = shutil.copytree(toy_artifact, tmp_path / "artifact")

    def older(manifest):
        for path in ("network", "input_dtype", "features.dtype", "features.are_inputs"):
            manifest = removed(manifest, path)
        return manifest | {"schema": 5}

    forge(folder, older)
    images = toy_split(30, 4).images
    decisions = toy_policy.decide(images)
    np.testing.assert_array_equal(load_policy(folder).decide(images), decisions)
    with EdgeRuntime(folder) as device:
        np.testing.assert_array_equal(device.predict(images).offloaded, decisions)
    assert load_cloud(folder)[1]["features"]["dtype"] == "float16"


def test_a_described_network_that_is_larger_than_its_weights_is_never_made(tmp_path):
    model = network_of("tokens cut")[0].model
    model.save_weights(tmp_path / "a.weights.h5")
    description = describe(model)
    (embedding,) = (x for x in description["layers"] if x["class_name"] == "Embedding")
    embedding["config"]["input_dim"] = 10**9  # 16 GB of weights
    with pytest.raises(ValueError, match=r"expected the 4,000,000,\d+ weights of the network"):
        rebuild(lambda: from_description(description), tmp_path / "a.weights.h5")


def test_what_is_described_is_made_again(tmp_path):
    model = network_of("images cut")[0].model
    again = from_description(json.loads(json.dumps(describe(model))))
    again.set_weights(model.get_weights())
    images = toy_split(4, 0).images
    for name, logits in model.predict(images, verbose=0).items():
        np.testing.assert_array_equal(again.predict(images, verbose=0)[name], logits)


# --- training ------------------------------------------------------------------------------------


def two_outputs(last: str | None = None, sent: str = "features") -> keras.Model:
    """Return a model of a table with the outputs of a device and of a cloud."""
    table = keras.Input((6,))
    x = layers.Dense(4, activation="relu", name=sent)(table)
    local = layers.Dense(3, activation=last, name="local")(x)
    cloud = layers.Dense(3, name="cloud")(layers.Dense(8, activation="relu")(x))
    return keras.Model(table, [local, cloud], name="two")


@pytest.mark.slow
def test_a_model_a_file_and_a_cascade_are_trained_alike(tmp_path):
    keras.utils.set_random_seed(0)
    model = table_model()
    model.save(tmp_path / "table.keras")
    wanted = [
        {"network": split(model, "hidden")},
        {"network": model, "at": "hidden"},
        {"network": str(tmp_path / "table.keras"), "at": "hidden"},
    ]
    said = []
    for network in wanted:
        keras.utils.set_random_seed(5)  # what an exit begins with
        cascade = as_network(**network) if "at" in network else split(model, "hidden")
        assert cascade.sent == ("hidden",)
        cascade.model.set_weights([np.full(w.shape, 0.1) for w in cascade.model.get_weights()])
        said.append(cascade.model.predict(table_data(5)[0], verbose=0))
    for each in said[1:]:
        np.testing.assert_array_equal(each["cloud"], said[0]["cloud"])
    fitted = fit_ddnn(table_data(30), **wanted[2], **RECIPE)
    assert fitted.cascade.sent == ("hidden",)
    assert fitted.network.sent == ("hidden",)  # folds are trained of it


def test_a_model_of_two_outputs_is_cut_at_its_features():
    cascade = as_network(two_outputs())
    assert [tier.name for tier in cascade.tiers] == ["local", "cloud"]
    assert as_network(two_outputs(sent="sent"), "sent").sent == ("sent",)
    fitted = fit_ddnn(table_data(30), network=two_outputs(), **RECIPE)
    assert fitted.bank.edge.features.shape == (30, 4)


@pytest.mark.slow
def test_a_model_of_keras_is_made_for_the_data():
    cascade = as_network("MobileNetV2", "block_6_project_BN", shape=(32, 32, 3), classes=4)
    assert (cascade.reads.shape, cascade.reads.dtype) == ((32, 32, 3), "uint8")
    assert cascade.model.output["cloud"].shape == (None, 4)


@pytest.mark.slow
def test_paper_is_the_network_of_the_configuration():
    tiny = DDNNConfig(local_filters=4, cloud_filters=((4,),), cloud_units=(4,), epochs=1)
    image = toy_split(24, 0)
    one, other = (
        fit_ddnn(image, config=tiny, network=name, batch_size=8, verbose=0).model.get_weights()
        for name in (None, "paper")
    )
    for here, there in zip(one, other, strict=True):
        np.testing.assert_array_equal(here, there)


REFUSED = [
    (lambda: {"network": "papper"}, "unknown model 'papper'.* near names: paper"),
    (lambda: {"network": "paper", "at": "pool"}, "the network of the paper is cut already"),
    (lambda: {"at": "pool"}, "the network of the paper is cut already; received at='pool'"),
    (lambda: {"network": of_table(), "at": "norm"}, "a cascade is cut already"),
    (lambda: {"network": 7}, "expected a Keras model, .*received int"),
    (lambda: {"network": "a.keras", "at": "hidden"}, "a.keras: expected a .keras file"),
    (lambda: {"network": "toy_networks:absent"}, "expected package.module:function"),
    (
        lambda: {"network": "toy_networks:table_model"},
        r"needs a layer to be cut at: pass at=LAYER or network=keras_ddnn.split\(model, at=LAYER\);"
        r" it can be cut at 3 layers, as norm, hidden, dense.*; python -m keras_ddnn.cuts toy_netw",
    ),
    (lambda: {"network": table_model()}, "it can be cut at 3 layers, as norm, hidden, dense"),
    (lambda: {"network": table_model(), "at": "hiden"}, "no layer 'hiden' .*near names: hidden"),
    (lambda: {"network": two_outputs(sent="x")}, "no layer 'features' .*pass at=LAYER"),
    (lambda: {"network": two_outputs("softmax")}, "must be logits; received 'softmax' in 'local'"),
    (
        lambda: {"network": keras.Model(*(lambda m: (m.inputs, m.outputs * 2))(table_model()))},
        "expected a model of one output, or of the outputs 'local' and 'cloud'",
    ),
    (lambda: {"network": keras.Sequential([layers.Dense(3)]), "at": "x"}, "with an input shape"),
]


def of_table() -> Cascade:
    return split(table_model(), "hidden")


@pytest.mark.parametrize(("wanted", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_is_no_network_is_refused_before_training(wanted, message, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: pytest.fail("it was trained"))
    image = toy_split(24, 0)
    splits = Splits("toy", image, image, image, ("a", "b", "c"))
    for call in (lambda **more: fit_ddnn(image, **more), lambda **more: run(splits, **more)):
        with pytest.raises(ValueError, match=message) as refused:
            call(**wanted(), verbose=0)
        assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_frozen_layers_let_the_cloud_answer_as_before():
    network = split(image_model(), "block_0_project_BN", freeze=True)  # with batch normalisation
    images, labels = image_data(48)
    before = network.model.predict(images, verbose=0)
    fitted = fit_ddnn((images, labels), network=network, **(RECIPE | {"learning_rate": 0.1}))
    after = fitted.model.predict(images, verbose=0)
    np.testing.assert_array_equal(after["cloud"], before["cloud"])
    assert np.abs(after["local"] - before["local"]).max() > 0.05


def test_a_cut_model_normalises_as_the_model_did():
    model, table = table_model(), table_data(20)[0].astype(np.float32)
    expected = model.predict(table, verbose=0)
    for network in (split(model, "hidden"), split(model, "hidden").copy()):
        for each in (network, network.folded()):
            logits = each.model.predict(table, verbose=0)["cloud"]
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def with_nan(table, labels):
    table[3, 2] = np.nan
    return table, labels


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("tables", with_nan, "train inputs: expected finite numbers, .*in 1 of 30 samples"),
        (
            "tables",
            lambda x, y: (x[:, :5], y),
            r"expected shape \(n, 6\), received shape \(30, 5\)",
        ),
        ("tables", lambda x, y: (x.astype(str), y), "expected numbers, received dtype"),
        ("tables", lambda x, y: (1e40 * x, y), "expected float32 in"),
        ("tokens", lambda x, y: (x + 0.5, y), "expected integers, received dtype float64"),
        ("tokens", lambda x, y: (x - 40, y), "expected int32 in 0..2147483647"),
    ],
)
def test_inputs_that_a_network_cannot_read_are_refused_before_training(kind, spoil, message):
    network, data, _ = network_of(f"{kind} cut")
    with pytest.raises(ValueError, match=message) as refused:
        fit_ddnn(spoil(*data(30)), network=network, **RECIPE)
    assert "\n" not in str(refused.value)


def test_only_images_are_augmented():
    network, data, _ = network_of("tokens cut")
    with pytest.raises(ValueError, match="augmentation is for images; received 'crop'"):
        fit_ddnn(data(30), network=network, augmentation="crop", **RECIPE)
    fitted = fit_ddnn(data(30), data(30), network=network, **RECIPE)
    with pytest.raises(ValueError, match="augmented copies are made of images alone"):
        fitted.augmented_bank(2)


def test_what_travels_is_counted_beside_the_raw_input():
    logits = np.zeros((4, 2), np.float32)
    images = toy_split(4, 0).images
    payload = Payload.of(TierOutputs(logits, images, images))
    assert payload.sent == payload.image == 16 * 16 * 3
    assert payload.as_json()["codes"] is None
    assert "768 bytes, 100% of the raw image and 90% of its PNG" in payload.verdict()
    table = table_data(4)[0].astype(np.float32)
    payload = Payload.of(TierOutputs(logits, table, table))
    assert payload.verdict() == "an offloaded sample sends 24 bytes, 100% of the raw input"


def test_a_chain_of_other_sizes_sends_the_raw_image():
    network = chain({"local": image_model(8), "cloud": image_model(24)}, input_shape=(16, 16, 3))
    assert network.tiers[0].sends_inputs
    assert (network.tiers[0].sent_dtype, network.reads.shape) == ("uint8", (16, 16, 3))
