"""The cloud service: right answers, and a reason in one line for whatever cannot be answered."""

import base64
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import flip_a_bit
from fastapi.testclient import TestClient
from toy_manifest import changed
from toy_service import INFER, SERVED, Server, app_of, served_network

from keras_ddnn.serve.cloud.gate import GateLimits
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.protocol.wire import HEADER_LENGTH, Tensor, decode, encode

FEATURES = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
IMAGES = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def client():
    with TestClient(app_of()) as client:
        yield client


def ask(client, *tensors, headers=(), **options):
    """Send tensors, given as (name, array); return the HTTP response."""
    own, body = encode([Tensor(*tensor) for tensor in tensors], **options)
    return client.post(INFER, content=body, headers=own | dict(headers))


def logits_of(response):
    assert response.status_code == 200, response.text
    return decode(response.headers, response.content, "outputs").tensors["logits"]


def reason(response, status):
    """Return why a request was refused, after checking how it was told."""
    assert response.status_code == status
    content = response.json()
    assert list(content) == ["error"]
    assert "\n" not in content["error"]
    return content["error"]


def test_features_are_answered_with_the_logits_of_the_network(client):
    response = ask(client, ("features", FEATURES), request_id="7")
    logits = logits_of(response)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, [[18, 22, 26], [66, 70, 74]])
    assert decode(response.headers, response.content, "outputs").id == "7"


def test_codes_stand_for_the_values_of_the_manifest(client):
    codes = FEATURES.astype(np.uint8)
    np.testing.assert_array_equal(
        logits_of(ask(client, ("features", codes))), [[9, 11, 13], [33, 35, 37]]
    )


def test_health_and_metadata_say_what_is_served(client):
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/ddnn/ready").json() == {"ready": True}
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
    model = client.get("/v2/models/ddnn").json()
    assert model["versions"] == ["0123"]
    assert model["inputs"] == [{"name": "features", "datatype": "FP16", "shape": [-1, 2, 2, 3]}]
    assert model["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "tiers", "datatype": "UINT8", "shape": [-1]},
        {"name": "fallback", "datatype": "UINT8", "shape": [-1]},
        {"name": "temperatures", "datatype": "FP32", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
    ]


def test_probabilities_are_calibrated_and_given_where_they_are_asked_for(client):
    def ask(features, **header):
        headers, body = encode([Tensor("features", features)])
        length = int(headers[HEADER_LENGTH])
        told = json.dumps(json.loads(body[:length]) | header).encode()
        headers[HEADER_LENGTH] = str(len(told))
        answer = client.post(INFER, content=told + body[length:], headers=headers)
        assert answer.status_code == 200, answer.text
        return decode(answer.headers, answer.content, "outputs").tensors

    features = np.zeros((1, 2, 2, 3), np.float16)
    features[0, 0, 0, 2] = 2.0  # so that logits are 0, 0 and 2, and half of it by the temperature
    (p,) = ask(features, outputs=[{"name": "probabilities"}])["probabilities"]
    np.testing.assert_allclose(p, np.exp([0, 0, 1]) / (2 + np.e), rtol=1e-6)
    assert set(ask(features)) == {"logits", "tiers", "fallback", "temperatures"}


def test_it_is_not_ready_before_it_runs_nor_after():
    assert "not running" in reason(TestClient(app_of()).get("/v2/health/ready"), 503)


@pytest.mark.parametrize(
    ("tensors", "parameters", "why"),
    [
        ([("features", FEATURES[:, 1:])], {}, "shape ('n', 2, 2, 3)"),
        ([("features", FEATURES.astype(np.float32))], {}, "float16 or uint8"),
        ([("features", FEATURES), ("other", FEATURES)], {}, "expected a tensor features"),
        ([("images", IMAGES)], {}, "expected a tensor features"),
        ([("features", FEATURES), ("images", IMAGES[:1])], {}, "expected 2 images"),
        ([("features", FEATURES), ("images", IMAGES[:, 1:])], {}, "shape ('n', 4, 4, 3)"),
        ([("features", FEATURES), ("images", FEATURES)], {}, "images must be uint8"),
        ([("features", FEATURES * np.float16("nan"))], {}, "finite"),
        ([("features", np.ones((257, 2, 2, 3), np.float16))], {}, "at most 256 samples"),
        ([("features", FEATURES)], {"model": "4567"}, "expected model 0123; received '4567'"),
        ([("features", FEATURES)], {"answered_locally": -1}, "answered_locally must be"),
        ([("features", FEATURES)], {"answered_locally": True}, "answered_locally must be"),
        ([("features", FEATURES)], {"answered_locally": 10**400}, "answered_locally must be"),
        ([("features", FEATURES)], {"timeout": -1}, "timeout must be an integer"),
        ([("features", FEATURES)], {"timeout": 0.25}, "timeout must be an integer"),
    ],
)
def test_a_request_that_does_not_suit_the_model_is_refused(client, tensors, parameters, why):
    assert why in reason(ask(client, *tensors, parameters=parameters), 400)


def test_two_codes_of_a_byte_stand_for_two_values():
    coded = {"low": 0.0, "step": 0.5, "bits": 4}
    served = changed(
        SERVED, "features", SERVED["features"] | {"shape": [2, 2, 4], "quantisation": coded}
    )
    with TestClient(make_app(served_network, served, identity="0123", max_wait=0.0)) as client:
        codes = np.full((1, 2, 2, 2), 0x24, np.uint8)
        assert logits_of(ask(client, ("features", codes))).tolist() == [[4, 8, 4, 8]]
        whole = np.zeros((1, 2, 2, 4), np.uint8)
        assert "('n', 2, 2, 2)" in reason(ask(client, ("features", whole)), 400)


def test_codes_are_refused_where_the_manifest_gives_them_no_values():
    manifest = changed(SERVED, "features.quantisation", None)
    with TestClient(make_app(served_network, manifest, identity="0123")) as client:
        assert "float16;" in reason(ask(client, ("features", FEATURES.astype(np.uint8))), 400)


def test_a_malformed_message_is_refused_with_the_reason(client):
    headers, body = encode([Tensor("features", FEATURES)])
    response = client.post(INFER, content=body[:-1], headers=headers)
    assert "the body has 47 left" in reason(response, 400)
    assert "received none" in reason(client.post(INFER, content=body), 400)


def test_other_paths_and_methods_are_refused_in_the_same_form(client):
    reason(client.get("/v2/models/other"), 404)
    reason(client.get(INFER), 405)


def test_a_body_too_long_is_refused_before_it_is_read():
    read = []

    def parts():
        for _ in range(1000):
            read.append(1)
            yield bytes(100)

    with TestClient(app_of(max_bytes=400, limits=GateLimits(linger_seconds=0.05))) as client:
        for declared in ("401", "9" * 5000):
            headers = {"Content-Length": declared}
            assert "400 bytes" in reason(client.post(INFER, content=b"x", headers=headers), 413)
        assert "400 bytes" in reason(client.post(INFER, content=bytes(401)), 413)
        assert "400 bytes" in reason(client.post(INFER, content=parts()), 413)
        logits_of(ask(client, ("features", FEATURES)))


def test_a_body_that_does_not_come_is_given_up():
    with (
        Server(app_of(limits=GateLimits(body_seconds=0.05))) as port,
        socket.create_connection(("127.0.0.1", port)) as line,
    ):
        line.sendall(
            b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"
        )
        assert b" 408 " in line.recv(4096)


def test_without_the_token_only_health_and_the_frame_of_the_page_answer():
    with TestClient(app_of(token="secret")) as client:
        for wrong in ({}, {"Authorization": "Bearer guess"}, {"Authorization": b"Bearer \xff"}):
            assert "token" in reason(ask(client, ("features", FEATURES), headers=wrong), 401)
        for path in ("/v2", "/v2/models/ddnn", "/metrics", "/state"):
            reason(client.get(path), 401)
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        right = {"Authorization": "Bearer secret"}
        logits_of(ask(client, ("features", FEATURES), headers=right))
        assert client.get("/metrics", headers=right).status_code == 200


def test_a_full_queue_is_503_and_says_when_to_come_again():
    release, busy = threading.Event(), threading.Event()

    def network(features):
        busy.set()
        assert release.wait(5)
        return served_network(features)

    with TestClient(app_of(network, max_queue=2)) as client:
        responses = []
        first, waiting = (
            threading.Thread(target=lambda: responses.append(ask(client, ("features", FEATURES))))
            for _ in range(2)
        )
        first.start()
        assert busy.wait(5)
        waiting.start()
        while "ddnn_cloud_queued_samples 2.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        refused = ask(client, ("features", FEATURES))
        release.set()
        first.join()
        waiting.join()
    assert "2 of 2 samples wait" in reason(refused, 503)
    assert 1 <= int(refused.headers["Retry-After"]) <= 3
    assert [response.status_code for response in responses] == [200, 200]


def test_logits_that_are_not_finite_are_refused():
    def network(features):
        return served_network(features) * np.float32("inf")

    with TestClient(app_of(network)) as client:
        assert "finite logits" in reason(ask(client, ("features", FEATURES + 1)), 422)


def test_a_network_that_fails_shows_no_traceback():
    def network(features):
        raise ZeroDivisionError("a detail of the inside")

    with TestClient(app_of(network)) as client:
        assert reason(ask(client, ("features", FEATURES)), 503) == "the network failed"


def test_metrics_and_state_count_what_was_answered_and_by_whom(client):
    parameters = {"answered_locally": 6}
    size = int(
        ask(
            client, ("features", FEATURES), ("images", IMAGES), parameters=parameters
        ).request.headers["Content-Length"]
    )
    ask(client, ("features", FEATURES), headers={HEADER_LENGTH: "0"})
    state = client.get("/state").json()
    assert state["requests"] == {"answered": 1, "refused": {"400": 1}}
    assert state["samples"] == {"local": 6, "offloaded": 2}
    assert state["received_bytes"] == size
    assert [image["class"] for image in state["images"]] == ["c", "c"]
    assert state["plan"] == SERVED["plan"]
    metrics = client.get("/metrics").text
    assert 'ddnn_cloud_samples_total{by="device"} 6.0' in metrics
    assert 'ddnn_cloud_refused_total{status="400"} 1.0' in metrics
    assert 'ddnn_cloud_batch_samples_bucket{le="2.0"} 1.0' in metrics
    with TestClient(app_of()) as other:
        assert other.get("/state").json()["requests"]["answered"] == 0


def test_the_page_asks_nobody_else(client):
    page = client.get("/")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")


def test_the_end_answers_what_waits():
    answers = []
    with Server(app_of(max_wait=0.3)) as port:

        def send():
            headers, body = encode([Tensor("features", FEATURES)])
            url = f"http://127.0.0.1:{port}{INFER}"
            answers.append(httpx.post(url, content=body, headers=headers).status_code)

        thread = threading.Thread(target=send)
        thread.start()
        while (
            "ddnn_cloud_queued_samples 2.0"
            not in httpx.get(f"http://127.0.0.1:{port}/metrics").text
        ):
            time.sleep(0.01)
    thread.join()
    assert answers == [200]


@pytest.fixture(scope="module")
def policy():
    from keras_ddnn.config import DDNNConfig
    from keras_ddnn.deploy.policy import OffloadPolicy
    from keras_ddnn.networks.paper import build_ddnn
    from keras_ddnn.rules.confidence import Margin

    config = DDNNConfig(local_filters=4, cloud_filters=((4,), (8,)), cloud_units=(8,))
    # The margin rule scores 0 at least, so that everything is offloaded.
    model = build_ddnn((16, 16, 3), 3, config)
    return OffloadPolicy(model, config, Margin(), -9.0, ("a", "b", "c"))


@pytest.fixture(scope="module")
def run(policy, tmp_path_factory):
    """Return the folder of a run that holds an artefact."""
    from keras_ddnn.deploy.artifact import save_policy

    folder = tmp_path_factory.mktemp("run")
    save_policy(policy, folder / "artifact")
    return folder


def offloaded(policy):
    """Return images, and features as a device would send them."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    features = policy.local_model(images, training=False)["features"]
    return images, np.asarray(features, np.float16)


def test_an_artefact_is_served_as_its_policy_predicts(policy, run):
    images, features = offloaded(policy)
    network, manifest, identity = load_cloud(run)
    with TestClient(make_app(network, manifest, identity=identity)) as client:
        logits = logits_of(ask(client, ("features", features), parameters={"model": identity}))
    classes, from_cloud = policy.predict(images)
    assert from_cloud.all()
    np.testing.assert_array_equal(logits.argmax(axis=1), classes)


def test_a_device_and_the_cloud_answer_together_as_the_policy_predicts(policy, run):
    images, _ = offloaded(policy)
    network, manifest, identity = load_cloud(run)
    with Server(make_app(network, manifest, identity=identity, token="secret")) as port:
        url = f"http://127.0.0.1:{port}"
        with EdgeRuntime(run, url, token="secret", share_images=True, deadline_s=20.0) as device:
            answer = device.predict(images)
        state = httpx.get(f"{url}/state", headers={"Authorization": "Bearer secret"}).json()
    assert answer.offloaded.all()
    assert not answer.fallback.any()
    np.testing.assert_array_equal(answer.classes, policy.predict(images)[0])
    assert state["samples"] == {"local": 0, "offloaded": 40}
    latest = np.frombuffer(base64.b64decode(state["images"][-1]["pixels"]), np.uint8)
    np.testing.assert_array_equal(latest.reshape(16, 16, 3), images[-1])


def test_a_damaged_artefact_is_not_served(run, tmp_path):
    shutil.copytree(run / "artifact", tmp_path / "artifact")
    flip_a_bit(tmp_path / "artifact" / "cloud" / "saved_model.pb")
    with pytest.raises(ValueError, match="saved_model"):
        load_cloud(tmp_path)


def test_an_artefact_without_graphs_is_not_served(policy, tmp_path):
    from keras_ddnn.deploy.artifact import save_policy

    save_policy(policy, tmp_path / "artifact", graphs=False)
    with pytest.raises(ValueError, match="saved without graphs"):
        load_cloud(tmp_path)


@pytest.mark.slow
def test_the_command_serves_until_a_signal(policy, run, tmp_path):
    _, features = offloaded(policy)
    (tmp_path / "token").write_text("secret\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [str(run), "--port", str(port), "--token-file", str(tmp_path / "token")]
    command = [sys.executable, "-m", "keras_ddnn.serve.cloud", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as service:
        end = time.monotonic() + 120
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while service.poll() is None and time.monotonic() < end:
                try:
                    if client.get("/v2/health/ready").status_code == 200:
                        break
                except httpx.ConnectError:
                    time.sleep(0.1)
            right = {"Authorization": "Bearer secret"}
            assert logits_of(ask(client, ("features", features), headers=right)).shape == (40, 3)
            reason(ask(client, ("features", features)), 401)
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 143
        assert "Traceback" not in service.stderr.read()


@pytest.mark.slow
def test_the_command_says_in_one_line_what_is_wrong_with_an_artefact(tmp_path):
    command = [sys.executable, "-m", "keras_ddnn.serve.cloud", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds no readable manifest.json" in done.stderr
    assert done.stderr.count("\n") == 1
