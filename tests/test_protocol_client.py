"""The protocol's own client finds what the service advertises, and is told what it does not do."""

import numpy as np
import pytest
from toy_service import Server, app_of
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

FEATURES = np.arange(24, dtype=np.float16).reshape(2, 2, 2, 3)
LOGITS = [[18, 22, 26], [66, 70, 74]]


@pytest.fixture(scope="module")
def client():
    with Server(app_of()) as port, InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


def features(binary=True):
    tensor = InferInput("features", FEATURES.shape, "FP16")
    tensor.set_data_from_numpy(FEATURES, binary_data=binary)
    return [tensor]


def advertised(client):
    (version,) = client.get_model_metadata("ddnn")["versions"]
    return version


def test_it_is_live_and_ready_with_the_version_that_it_advertises(client):
    version = advertised(client)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ddnn")
    assert client.is_model_ready("ddnn", version)
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("ddnn", version)["name"] == "ddnn"


@pytest.mark.parametrize("outputs", [None, [InferRequestedOutput("logits")]])
@pytest.mark.parametrize("versioned", [False, True])
def test_it_infers_with_binary_tensors(client, outputs, versioned):
    version = advertised(client) if versioned else ""
    answer = client.infer("ddnn", features(), version, outputs=outputs)
    np.testing.assert_array_equal(answer.as_numpy("logits"), LOGITS)


def test_it_says_which_tier_has_answered_unless_the_logits_alone_are_asked_for(client):
    answer = client.infer("ddnn", features())
    for name in ("tiers", "fallback"):
        np.testing.assert_array_equal(answer.as_numpy(name), np.zeros(2, np.uint8))
    alone = client.infer("ddnn", features(), outputs=[InferRequestedOutput("logits")])
    assert [output["name"] for output in alone.get_response()["outputs"]] == ["logits"]
    both = [InferRequestedOutput(name) for name in ("tiers", "logits")]
    answer = client.infer("ddnn", features(), outputs=both)
    np.testing.assert_array_equal(answer.as_numpy("logits"), LOGITS)
    assert answer.as_numpy("fallback") is None


def test_a_timeout_may_be_told(client):
    answer = client.infer("ddnn", features(), timeout=250_000)
    np.testing.assert_array_equal(answer.as_numpy("logits"), LOGITS)


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        ({"model_version": "1"}, "404", "expected version 0123 of ddnn; received '1'"),
        ({"outputs": [InferRequestedOutput("classes")]}, "400", "expected the output logits"),
        ({"outputs": [InferRequestedOutput("logits")] * 2}, "400", "logits, once"),
        (
            {"outputs": [InferRequestedOutput("logits", class_count=2)]},
            "400",
            "no parameters but binary_data; received ['classification']",
        ),
        (
            {"outputs": [InferRequestedOutput("logits", binary_data=False)]},
            "400",
            "binary_data must be true",
        ),
        ({"sequence_id": 7, "sequence_start": True}, "400", "received ['sequence_end'"),
        ({"request_compression_algorithm": "gzip"}, "415", "not compressed; received 'gzip'"),
    ],
)
def test_what_it_does_not_do_it_refuses(client, options, status, why):
    with pytest.raises(InferenceServerException) as refused:
        client.infer("ddnn", features(), **options)
    assert refused.value.status() == status
    assert why in refused.value.message()


def test_tensors_in_json_are_refused(client):
    with pytest.raises(InferenceServerException, match="Inference-Header-Content-Length"):
        client.infer("ddnn", features(binary=False))


def test_another_version_is_not_ready(client):
    assert not client.is_model_ready("ddnn", "1")
    with pytest.raises(InferenceServerException, match="expected version 0123"):
        client.get_model_metadata("ddnn", "1")
