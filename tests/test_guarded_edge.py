"""A device under its drift guard: audits travel with what is offloaded, and change no answer."""

import numpy as np
import pytest
from conftest import toy_split
from fault_server import CLOUD_CLASS, FaultServer
from PIL import Image

from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.protocol.wire import decode

SPLIT = toy_split(100, 3)


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def runtime_of(folder, server, **options):
    """Return a runtime that audits every sample, and may wait."""
    runtime = EdgeRuntime(folder, server.url, **({"deadline_s": 30.0} | options))
    runtime.guard = DriftGuard.of(runtime.manifest, gain=0.0, audit_share=1.0)
    return runtime


def test_an_audit_sends_what_is_kept_and_answers_as_without(toy_artifact, server):
    with EdgeRuntime(toy_artifact, server.url, deadline_s=30.0) as plain:
        expected = plain.predict(SPLIT.images)
    server.requests.clear()
    with runtime_of(toy_artifact, server) as runtime:
        answer = runtime.predict(SPLIT.images, SPLIT.labels)
    np.testing.assert_array_equal(answer.offloaded, expected.offloaded)
    np.testing.assert_array_equal(answer.classes, expected.classes)
    sent = [len(decode(*request).tensors["features"]) for request in server.requests]
    assert sum(sent) == len(SPLIT.images)
    kept, local = ~answer.offloaded, answer.classes
    cost = (SPLIT.labels == CLOUD_CLASS).astype(int) - (SPLIT.labels == local)
    status = runtime.guard.status()["audit"]
    assert status["drop"]["recent"] == pytest.approx(np.mean(kept * cost))
    assert status["disagreement"]["recent"] == pytest.approx(np.mean(kept & (local != CLOUD_CLASS)))


def test_the_guard_of_an_artefact_holds_the_share_it_was_saved_with(toy_artifact):
    runtime = EdgeRuntime(toy_artifact, guarded=True)
    assert runtime.guard.controller.local_fraction == pytest.approx(0.5, abs=0.01)
    shifted = np.full_like(SPLIT.images, 255)  # all scores alike
    for _ in range(15):
        answer = runtime.predict(shifted)
    assert np.mean(~answer.offloaded) == pytest.approx(0.5, abs=0.1)
    assert runtime.guard.status()["alarms"][0].startswith("Scores have shifted")


def test_what_the_cloud_has_not_answered_teaches_nothing(toy_artifact, server):
    server.fault = "error_500"
    with runtime_of(toy_artifact, server) as runtime:
        answer = runtime.predict(SPLIT.images)
    np.testing.assert_array_equal(answer.fallback, answer.offloaded)
    assert runtime.guard.status()["audit"]["disagreement"]["count"] == 0


def test_labels_are_one_an_image(toy_artifact):
    with pytest.raises(ValueError, match=r"expected 100 labels; received shape \(3,\)"):
        EdgeRuntime(toy_artifact).predict(SPLIT.images, [0, 1, 2])


@pytest.mark.parametrize(
    ("shade", "verdict"), [(None, "no drift was noticed"), (255, "Scores have shifted")]
)
def test_the_command_line_says_whether_data_have_drifted(
    toy_artifact, tmp_path, capsys, shade, verdict
):
    for k, image in enumerate(SPLIT.images):
        Image.fromarray(image if shade is None else np.full_like(image, shade)).save(
            tmp_path / f"{k}.png"
        )
    main([str(toy_artifact), "--images", str(tmp_path), "--batch", "50", "--guard"])
    assert verdict in capsys.readouterr().out
