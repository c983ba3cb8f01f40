"""A device decides as the policy does, needs no TensorFlow, and says what it has done."""

import json
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import flip_a_bit, toy_split, untrained_policy
from fault_server import CLOUD_CLASS, FaultServer
from PIL import Image
from toy_manifest import forge
from toy_service import Server

from keras_ddnn.data.quantisation import BOTTLENECK_CODES, Quantisation
from keras_ddnn.deploy.artifact import save_policy
from keras_ddnn.files.checksums import sha256
from keras_ddnn.files.manifest import model_id, read_manifest
from keras_ddnn.serve.cloud.kept import KeptSamples
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import BATCH, EdgeRuntime
from keras_ddnn.serve.protocol.limits import MAX_BYTES
from keras_ddnn.serve.protocol.wire import decode

SPLIT = toy_split(100, 3)
IMAGES = SPLIT.images
PATIENT = 30.0  # seconds, where nothing is about time


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def runtime_of(folder, server, **options):
    return EdgeRuntime(folder, server.url, **({"deadline_s": PATIENT} | options))


def test_a_device_decides_as_the_policy_and_takes_the_cloud_at_its_word(
    toy_policy, toy_artifact, server
):
    with runtime_of(toy_artifact, server) as runtime:
        answer = runtime.predict(IMAGES)
    np.testing.assert_array_equal(answer.offloaded, toy_policy.decide(IMAGES))
    assert 0 < answer.offloaded.sum() < len(IMAGES)
    assert not answer.fallback.any()
    local = toy_policy.local_model.predict(IMAGES, verbose=0)["local"].argmax(axis=1)
    np.testing.assert_array_equal(answer.classes, np.where(answer.offloaded, CLOUD_CLASS, local))
    assert answer.classes.dtype == np.int64


def test_the_int8_graph_decides_nearly_as_the_policy(toy_policy, toy_artifact, server):
    with runtime_of(toy_artifact, server, graph="int8") as runtime:
        offloaded = runtime.predict(IMAGES).offloaded
    assert np.mean(offloaded == toy_policy.decide(IMAGES)) > 0.9


@pytest.mark.parametrize("graph", ["float", "int8"])
def test_a_request_holds_the_features_of_what_is_offloaded(toy_policy, toy_artifact, server, graph):
    with runtime_of(toy_artifact, server, graph=graph) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    ((headers, body),) = server.requests
    sent = decode(headers, body)
    features = sent.tensors["features"]
    expected = toy_policy.local_model.predict(IMAGES[:BATCH], verbose=0)["features"]
    if graph == "int8":
        assert features.dtype == np.uint8
        manifest = read_manifest(toy_artifact)
        quantisation = Quantisation.from_json(manifest["features"]["quantisation"])
        features = quantisation.values(features)
    assert abs(features - expected[offloaded]).max() < (0.2 if graph == "int8" else 1e-3)
    assert set(sent.tensors) == {"features"}
    assert sent.parameters == {
        "model": model_id(toy_artifact),
        "answered_locally": int((~offloaded).sum()),
    }


def test_a_bottleneck_is_sent_in_the_codes_it_was_trained_with(tmp_path, server):
    policy = untrained_policy(bottleneck=2)
    save_policy(policy, tmp_path / "artifact")
    with runtime_of(tmp_path / "artifact", server) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    codes = decode(*server.requests[0]).tensors["features"]
    assert codes.dtype == np.uint8
    expected = policy.local_model.predict(IMAGES[:BATCH], verbose=0)["features"][offloaded]
    # A value between two codes may be rounded to either by another order of sums.
    off = np.abs(BOTTLENECK_CODES.values(codes) - expected)
    assert off.max() <= BOTTLENECK_CODES.step
    assert (off == 0).mean() > 0.99


def test_the_cloud_learns_of_each_local_answer_once(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        offloaded = np.concatenate([runtime.predict(image[None]).offloaded for image in IMAGES])
    told = [decode(*request).parameters["answered_locally"] for request in server.requests]
    last = np.flatnonzero(offloaded)[-1]
    assert sum(told) == np.sum(~offloaded[:last])


def test_images_travel_only_if_shared(toy_artifact, server):
    with runtime_of(toy_artifact, server, share_images=True) as runtime:
        offloaded = runtime.predict(IMAGES[:BATCH]).offloaded
    sent = decode(*server.requests[0]).tensors["images"]
    np.testing.assert_array_equal(sent, IMAGES[:BATCH][offloaded])


def test_a_device_answers_all_itself_and_the_cloud_gets_what_was_hard(toy_artifact, tmp_path):
    def network(features):
        return features.astype(np.float32).sum(axis=(1, 2))[:, :3]

    manifest, spool = read_manifest(toy_artifact), tmp_path / "spool"
    with EdgeRuntime(toy_artifact) as alone:
        expected = alone.predict(IMAGES)
    nowhere = "http://127.0.0.1:9"  # nobody listens at this port
    with EdgeRuntime(toy_artifact, nowhere, spool=spool) as down:
        answer = down.predict(IMAGES)
        assert not down.flush()
    hard = int(expected.offloaded.sum())
    assert 0 < hard == down.waiting < len(IMAGES)
    np.testing.assert_array_equal(answer.classes, expected.classes)
    assert (answer.causes == np.where(answer.offloaded, "deferred", "")).all()
    np.testing.assert_array_equal(answer.deferred, answer.offloaded)
    assert not answer.fallback.any()
    identity = model_id(toy_artifact)
    app = make_app(network, manifest, identity=identity, keep=KeptSamples(tmp_path / "kept"))
    with (
        Server(app) as port,
        EdgeRuntime(toy_artifact, f"http://127.0.0.1:{port}", spool=spool) as up,
    ):
        assert up.flush()
        assert up.waiting == 0
    kept = {
        np.asarray(Image.open(file)).tobytes() for file in (tmp_path / "kept").glob("images/*/*")
    }
    assert kept == {image.tobytes() for image in IMAGES[expected.offloaded]}


def test_a_device_refuses_a_spool_that_it_cannot_use(toy_artifact, tmp_path):
    with pytest.raises(ValueError, match="spool: expected cloud_url"):
        EdgeRuntime(toy_artifact, spool=tmp_path)
    with pytest.raises(ValueError, match="spool: expected guarded=False"):
        EdgeRuntime(toy_artifact, "http://127.0.0.1:9", spool=tmp_path, guarded=True)


@pytest.mark.parametrize(
    ("graph", "file"), [("float", "edge.tflite"), ("int8", "edge_int8.tflite")]
)
def test_a_device_tells_its_peak_of_memory_and_the_files_that_it_needs(toy_artifact, graph, file):
    needed = sum((toy_artifact / name).stat().st_size for name in ("manifest.json", file))
    with EdgeRuntime(toy_artifact, graph=graph) as runtime:
        before = runtime.metrics.numbers()
        content = bytearray(1 << 27)
        content[:: 1 << 10] = b"1" * (1 << 17)  # pages count once they are written
        del content
        after, text = runtime.metrics.numbers(), runtime.metrics.text()
    assert before["files_bytes"] == needed
    assert f"ddnn_edge_files_bytes {float(needed)}" in text
    assert after["peak_memory_bytes"] >= max(1 << 27, before["peak_memory_bytes"])
    assert "ddnn_edge_peak_memory_bytes" in text


def test_the_memory_of_the_process_that_has_started_a_device_does_not_count():
    content = bytearray(1 << 28)
    content[:: 1 << 10] = b"1" * (1 << 18)
    code = "from keras_ddnn.serve.edge.telling.metrics import peak_memory; print(peak_memory())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) < len(content)


def test_no_request_is_longer_than_the_cloud_of_the_same_artefact_takes(tmp_path, server):
    policy = untrained_policy((96, 96, 3), local_filters=32)
    save_policy(policy, tmp_path / "artifact")
    images = toy_split(BATCH, 3, shape=(96, 96, 3)).images
    with runtime_of(tmp_path / "artifact", server) as runtime:
        runtime.score_threshold = -np.inf
        answer = runtime.predict(images)
    assert (answer.classes == CLOUD_CLASS).all()
    assert max(len(body) for _, body in server.requests) <= MAX_BYTES
    sent = [decode(*request).tensors["features"] for request in server.requests]
    assert sum(map(len, sent)) == BATCH
    assert len(sent) == -(-sum(array.nbytes for array in sent) // MAX_BYTES)


@pytest.mark.parametrize("share_images", [False, True])
@pytest.mark.parametrize("graph", ["float", "int8"])
def test_a_request_is_cut_to_the_bytes_and_samples_that_are_allowed(
    toy_artifact, server, graph, share_images
):
    options = {"graph": graph, "share_images": share_images, "max_bytes": 5000, "max_samples": 12}
    with runtime_of(toy_artifact, server, **options) as runtime:
        runtime.score_threshold = -np.inf
        assert (runtime.predict(IMAGES).classes == CLOUD_CLASS).all()
    bytes_of_a_sample = (256 if graph == "int8" else 512) + share_images * 768
    assert runtime.requests.sample_bytes == bytes_of_a_sample
    counts = [len(decode(*request).tensors["features"]) for request in server.requests]
    assert max(counts) == min(12, (5000 - 300) // bytes_of_a_sample)
    assert max(len(body) for _, body in server.requests) <= 5000


def test_an_artefact_of_which_one_sample_is_too_long_is_refused(toy_artifact, server):
    with pytest.raises(ValueError, match=r"max_bytes of at least \d+, for one.*received 600"):
        runtime_of(toy_artifact, server, max_bytes=600)


def test_all_parts_of_a_call_share_one_deadline(toy_artifact, server):
    server.fault = "slow"  # each answer takes 0.4 s
    with runtime_of(toy_artifact, server, max_samples=1, deadline_s=0.6, failures=99) as runtime:
        runtime.score_threshold = -np.inf
        answer = runtime.predict(IMAGES[:4])
    assert answer.seconds < 1.0
    assert not answer.fallback[0]
    assert answer.fallback[1:].all()


def test_a_part_that_is_not_answered_costs_the_others_nothing(toy_artifact, server):
    server.fault = "nan_of_three"
    with runtime_of(toy_artifact, server, max_samples=3) as runtime:
        runtime.score_threshold = -np.inf
        answer = runtime.predict(IMAGES[:5])
    np.testing.assert_array_equal(answer.causes, ["unusable-answer"] * 3 + [""] * 2)
    assert (answer.classes[3:] == CLOUD_CLASS).all()


def test_threads_that_share_a_device_get_the_answers_of_a_lone_run(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        alone = [runtime.predict(image[None]) for image in IMAGES]

        def ask(k):
            return runtime.predict(IMAGES[k, None])

        order = np.random.default_rng(0).permutation(np.tile(np.arange(len(IMAGES)), 8))
        with ThreadPoolExecutor(4) as threads:
            together = list(threads.map(ask, order))
        numbers = runtime.metrics.numbers()
    for k, answer in zip(order, together):
        assert answer.scores == alone[k].scores
        assert answer.classes == alone[k].classes
        assert answer.offloaded == alone[k].offloaded
    assert numbers["local"] + numbers["cloud"] == 9 * len(IMAGES)
    told = sum(decode(*request).parameters["answered_locally"] for request in server.requests)
    assert 0 <= numbers["local"] - told <= len(IMAGES)


def test_one_connection_serves_all_requests(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        for _ in range(5):
            runtime.predict(IMAGES)
    assert len(server.requests) > 5
    assert len(server._open) == 1


def test_without_a_cloud_the_local_network_answers_all(toy_artifact):
    answer = EdgeRuntime(toy_artifact).predict(IMAGES)
    np.testing.assert_array_equal(answer.fallback, answer.offloaded)


def test_fallbacks_are_counted_by_cause(toy_artifact, server, caplog):
    server.fault = "error_500"
    with (
        caplog.at_level(logging.WARNING, "keras_ddnn"),
        runtime_of(toy_artifact, server, failures=99) as runtime,
    ):
        answers = [runtime.predict(IMAGES[:50])]
        server.fault = "wrong_token"
        answers += [runtime.predict(IMAGES[50:]), runtime.predict(IMAGES[50:])]
        text = runtime.metrics.text()
    first, *others = [int(answer.offloaded.sum()) for answer in answers]
    expected = {"server-error": first, "unauthorised": sum(others)}
    assert runtime.metrics.causes() == expected
    for cause, count in expected.items():
        assert f'ddnn_edge_fallback_samples_total{{cause="{cause}"}} {float(count)}' in text
    for answer, cause in zip(answers, ["server-error", "unauthorised", "unauthorised"]):
        np.testing.assert_array_equal(answer.causes, np.where(answer.offloaded, cause, ""))
    lines = [record.getMessage() for record in caplog.records]
    assert ["(server-error)" in lines[0], "(unauthorised)" in lines[1]] == [True, True]
    assert f"unauthorised {sum(others)}, server-error {first}" in lines[2]
    assert len(lines) == 3


def test_a_refusal_is_kept_only_until_the_cloud_has_answered(toy_artifact, server):
    server.fault = "wrong_token"
    with runtime_of(toy_artifact, server) as runtime:
        assert runtime.check().failure.lasting
        assert runtime.refusal.cause == "unauthorised"
        server.fault = "none"
        runtime.predict(IMAGES)
        assert runtime.refusal is None
        server.fault = "wrong_token"
        runtime.predict(IMAGES)
        assert runtime.refusal is None
        assert set(runtime.metrics.causes()) >= {"unauthorised"}


def test_a_check_asks_once_and_is_no_answer_that_counts(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        found = runtime.check(5)
        numbers = runtime.metrics.numbers()
    ((headers, body),) = server.requests
    assert decode(headers, body).tensors["features"].shape[0] == found.samples == 5
    assert (found.failure, found.sent_bytes) == (None, len(body))
    assert numbers["local"] == numbers["cloud"] == numbers["fallback"] == 0


def test_the_threshold_may_be_moved(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    runtime.score_threshold = np.inf
    assert not runtime.predict(IMAGES).offloaded.any()
    runtime.score_threshold = -np.inf
    assert runtime.predict(IMAGES).offloaded.all()


def test_a_comparison_with_no_number_offloads(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    runtime.score_threshold = np.nan
    assert runtime.predict(IMAGES).offloaded.all()


def test_counters_and_percentiles_say_what_happened(toy_artifact, server):
    with runtime_of(toy_artifact, server) as runtime:
        offloaded = runtime.predict(IMAGES).offloaded.sum()
        numbers, text = runtime.metrics.numbers(), runtime.metrics.text()
    assert (numbers["local"], numbers["cloud"]) == (100 - offloaded, offloaded)
    assert numbers["sent_bytes"] == sum(len(body) for _, body in server.requests)
    assert 0 < numbers["p50"] <= numbers["p99"]
    assert f'ddnn_edge_samples_total{{answer="cloud"}} {float(offloaded)}' in text


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (IMAGES[:, :8], r"uint8 of shape \(100, 8, 16, 3\)"),
        (IMAGES[0], r"uint8 of shape \(16, 16, 3\)"),
        (IMAGES / 255, "float64"),
        (IMAGES[:0], r"uint8 of shape \(0, 16, 16, 3\)"),
    ],
)
def test_other_images_are_refused(toy_artifact, images, received):
    with pytest.raises(ValueError, match=f"expected uint8 images.*received {received}"):
        EdgeRuntime(toy_artifact).predict(images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cloud_url": "10.0.0.1:80"}, "must be http"),
        ({"cloud_url": "ftp://host"}, "must be http"),
        ({"graph": "int4"}, "unknown graph 'int4'; known: float, int8"),
        ({"deadline_s": 0.0}, "deadline_s must be positive"),
    ],
)
def test_bad_options_are_refused(toy_artifact, options, message):
    with pytest.raises(ValueError, match=message):
        EdgeRuntime(toy_artifact, **options)


def test_a_damaged_artefact_is_refused(toy_artifact, tmp_path):
    damaged = shutil.copytree(toy_artifact, tmp_path / "artifact")
    flip_a_bit(damaged / "edge.tflite")
    with pytest.raises(ValueError, match=r"edge\.tflite is damaged"):
        EdgeRuntime(damaged)


def tampered_with(toy_artifact, folder, graph):
    """Return a copy of an artefact with another graph, whose hash is right."""
    shutil.copytree(toy_artifact, folder)
    (folder / "edge.tflite").write_bytes(graph)
    hashes = read_manifest(toy_artifact)["sha256"]
    hashes |= {"edge.tflite": sha256(folder / "edge.tflite")}
    forge(folder, lambda manifest: manifest | {"sha256": hashes})
    return folder


def converted(outputs):
    """Return a LiteRT graph from images to outputs, with operations that LiteRT does not have."""
    import tensorflow as tf

    module = tf.Module()
    spec = tf.TensorSpec((None, 16, 16, 3), tf.uint8, name="images")
    module.device = tf.function(outputs, input_signature=[spec], autograph=False)
    function = module.device.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
    converter.allow_custom_ops = True
    return converter.convert()


@pytest.mark.parametrize("graph", [b"", b"no graph at all", b"\x20\x00\x00\x00TFL3" + b"\xff" * 64])
def test_what_is_no_graph_is_refused_in_one_line(toy_artifact, tmp_path, graph):
    folder = tampered_with(toy_artifact, tmp_path / "artifact", graph)
    with pytest.raises(ValueError, match=r"edge\.tflite is no graph that LiteRT runs") as refused:
        EdgeRuntime(folder)
    assert "\n" not in str(refused.value)


def test_a_graph_with_operations_of_its_own_is_refused_by_name(toy_artifact, tmp_path):
    import tensorflow as tf

    graph = converted(lambda images: {"score": tf.math.digamma(tf.cast(images, tf.float32))})
    folder = tampered_with(toy_artifact, tmp_path / "artifact", graph)
    with pytest.raises(ValueError, match="unresolved custom op: Digamma"):
        EdgeRuntime(folder)


def test_a_graph_of_other_outputs_than_the_manifest_says_is_refused(toy_artifact, tmp_path):
    import tensorflow as tf

    graph = converted(lambda images: {"score": tf.cast(images, tf.float32)})
    folder = tampered_with(toy_artifact, tmp_path / "artifact", graph)
    with pytest.raises(ValueError, match=r"expected images uint8.*received images uint8"):
        EdgeRuntime(folder)


def test_an_artefact_without_a_graph_is_refused(toy_policy, tmp_path):
    from keras_ddnn.deploy.artifact import save_policy

    save_policy(toy_policy, tmp_path / "artifact", graphs=False)
    with pytest.raises(
        ValueError, match=r"holds no edge\.tflite.*graphs=False, or its rule, margin"
    ):
        EdgeRuntime(tmp_path / "artifact")


def test_an_artefact_without_an_int8_graph_names_what_is_missing_and_the_remedy(
    toy_policy, tmp_path
):
    from keras_ddnn.deploy.artifact import save_policy

    save_policy(toy_policy, tmp_path / "artifact")
    with pytest.raises(
        ValueError, match=r"holds no edge_int8.*without validation data: save"
    ) as no:
        EdgeRuntime(tmp_path / "artifact", graph="int8")
    assert "val_bank=..." in str(no.value)
    assert "rule" not in str(no.value)


def save_images(folder):
    for k, (image, label) in enumerate(zip(SPLIT.images, SPLIT.labels)):
        (folder / "abc"[label]).mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(folder / "abc"[label] / f"{k}.png")


def test_the_command_line_reports_on_a_folder_of_images(toy_artifact, server, tmp_path, capsys):
    save_images(tmp_path / "images")
    main([str(toy_artifact), "--cloud", server.url, "--images", str(tmp_path / "images")])
    report = capsys.readouterr().out
    for line in ("100 images", "answered here", "bytes sent", "p99 of a call", "accuracy"):
        assert line in report


def test_the_command_line_names_what_is_wrong(toy_artifact, tmp_path, capsys):
    save_images(tmp_path / "images")
    (tmp_path / "images" / "b").rename(tmp_path / "images" / "zebra")
    with pytest.raises(SystemExit):
        main([str(toy_artifact), "--images", str(tmp_path / "images")])
    assert "expected a folder named after a class, a, b, c" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--images", str(tmp_path / "images")])
    assert "holds no readable manifest.json" in capsys.readouterr().err


MEASURE = """
import json, re, sys
import numpy as np
from keras_ddnn.serve.edge import __main__ as edge
edge.main(sys.argv[1:])
heavy = {name.split(".")[0] for name in sys.modules}
heavy &= {"tensorflow", "keras", "scipy", "pandas", "jax", "torch"}
status = open("/proc/self/status").read()  # getrusage would tell of the parent's memory too
print(json.dumps([int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) / 1024, sorted(heavy)]))
"""


def test_a_device_needs_neither_tensorflow_nor_much_memory(tmp_path):
    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.deploy.artifact import save_policy
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Margin

    config = DDNNConfig()  # the paper's networks
    model = build_ddnn((32, 32, 3), 10, config)
    names = tuple(map(str, range(10)))
    save_policy(OffloadPolicy(model, config, Margin(), 0.5, names), tmp_path / "artifact")
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    arrays = {f"x_{what}": images for what in ("train", "val", "test")}
    arrays |= {f"y_{what}": np.arange(200) % 10 for what in ("train", "val", "test")}
    np.savez(tmp_path / "images.npz", **arrays)
    arguments = [str(tmp_path / "artifact"), "--dataset", str(tmp_path / "images.npz")]
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=True
    )
    megabytes, heavy = json.loads(run.stdout.splitlines()[-1])
    assert heavy == []
    assert megabytes <= 250
