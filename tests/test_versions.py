"""Two artefacts served at once: each device is answered by its own, and a change loses nothing."""

import itertools
import shutil
import threading
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from toy_manifest import forge
from toy_service import INFER, SERVED, Server

from keras_ddnn.files.manifest import model_id, read_manifest
from keras_ddnn.rules.recalibration import write_recalibration
from keras_ddnn.serve.cloud import __main__ as command
from keras_ddnn.serve.cloud.logs import RepeatFilter
from keras_ddnn.serve.cloud.network import served_manifest
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.cloud.versions import Served
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.causes import Unanswered
from keras_ddnn.serve.protocol.link import CloudLink
from keras_ddnn.serve.protocol.wire import Tensor, decode, encode

FEATURES = np.ones((1, 2, 2, 3), np.float16)
CLIENT = httpx.Client(verify=False)  # which would load certificates
PATIENT = 30.0  # seconds, where nothing is about time


def version(identity, says, **fields) -> Served:
    """Return a version that says one number of every class."""

    def network(features):
        return np.full((len(features), 3), says, np.float32)

    return Served(network, SERVED | fields, identity)


A, B = version("aa", 1.0), version("bb", 2.0)


def app_of(first=A, *others, **options):
    options = {"max_wait": 0.0, "others": others} | options
    return make_app(first.model, first.manifest, identity=first.identity, **options)


def request(model=None, features=FEATURES):
    parameters = {} if model is None else {"model": model}
    return encode([Tensor("features", features)], parameters=parameters)


def said(headers, body) -> float:
    return float(decode(headers, body, "outputs").tensors["logits"][0, 0])


def asks(port, model=None, path=INFER):
    """Return what a service says, or the status and the reason."""
    headers, body = request(model)
    answer = CLIENT.post(f"http://127.0.0.1:{port}{path}", headers=headers, content=body)
    if answer.status_code == 200:
        return said(answer.headers, answer.content)
    return answer.status_code, answer.json()["error"]


def versioned(identity):
    return f"/v2/models/ddnn/versions/{identity}/infer"


def test_each_device_is_answered_by_the_network_of_its_artefact():
    with Server(app_of(A, B)) as port:
        assert [asks(port, "aa"), asks(port, "bb"), asks(port)] == [1.0, 2.0, 1.0]
        assert [asks(port, path=versioned(name)) for name in ("aa", "bb")] == [1.0, 2.0]
        base = f"http://127.0.0.1:{port}"
        assert CLIENT.get(f"{base}/v2/models/ddnn").json()["versions"] == ["aa", "bb"]
        assert CLIENT.get(f"{base}/v2/models/ddnn/versions/bb/ready").json() == {"ready": True}
        assert CLIENT.get(f"{base}/state").json()["versions"] == ["aa", "bb"]
        metrics = CLIENT.get(f"{base}/metrics").text
    assert 'ddnn_cloud_model_requests_total{model="aa"} 3.0' in metrics
    assert 'ddnn_cloud_model_requests_total{model="bb"} 2.0' in metrics


def test_a_request_of_no_version_hears_which_there_are():
    with Server(app_of(A, B)) as port:
        assert asks(port, "cc") == (400, "expected model aa or bb; received 'cc'")
        assert asks(port, "bb", versioned("aa")) == (400, "expected model aa; received 'bb'")
        status, why = asks(port, path=versioned("cc"))
    assert (status, why) == (404, "expected version aa or bb of ddnn; received 'cc'")


def test_only_the_health_of_what_is_served_needs_no_token():
    def status(port, path, **headers):
        return CLIENT.get(f"http://127.0.0.1:{port}/v2/models/ddnn{path}", headers=headers)

    with Server(app_of(A, B, token="secret")) as port:
        assert status(port, "/versions/bb/ready").status_code == 200
        assert status(port, "/versions/cc/ready").status_code == 401
        assert status(port, "/versions/bb").status_code == 401
        known = status(port, "/versions/cc/ready", Authorization="Bearer secret")
        assert known.status_code == 404


def test_no_request_is_lost_while_versions_come_and_go():
    app, begun = app_of(A), threading.Barrier(5)
    # Deployed, made the first, deployed further, and rolled back.
    steps = itertools.cycle([(A, B), (B, A), (B, A, version("cc", 3.0)), (A,)])

    def device(port):
        link = CloudLink(f"http://127.0.0.1:{port}")
        begun.wait()
        answers = [link.ask(*request("aa"), time.monotonic() + PATIENT, said) for _ in range(75)]
        link.close()
        return answers

    with Server(app) as port, ThreadPoolExecutor(4) as devices:
        asking = [devices.submit(device, port) for _ in range(4)]
        begun.wait()
        changes = 0
        while changes < 8 or not all(one.done() for one in asking):
            served, changes = next(steps), changes + 1
            app.versions.reload(lambda served=served: served).result(PATIENT)
            assert asks(port, served[-1].identity) == served[-1].model(FEATURES)[0, 0]
    assert [one.result() for one in asking] == [[1.0] * 75] * 4


def test_a_version_that_goes_answers_the_requests_that_it_has():
    working, goes = threading.Event(), threading.Event()

    def slow(features):
        working.set()
        assert goes.wait(PATIENT)
        return np.full((len(features), 3), 7.0, np.float32)

    app = app_of(Served(slow, SERVED, "aa"), max_batch=1)
    with Server(app) as port, ThreadPoolExecutor(3) as clients:
        base, link = f"http://127.0.0.1:{port}", CloudLink(f"http://127.0.0.1:{port}")
        asked = [
            clients.submit(link.ask, *request("aa"), time.monotonic() + PATIENT, said)
            for _ in range(3)
        ]
        try:
            assert working.wait(PATIENT)
            while "ddnn_cloud_queued_samples 2.0" not in CLIENT.get(f"{base}/metrics").text:
                assert not any(one.done() for one in asked)  # one is at work
            done = app.versions.reload(lambda: [B])
            while CLIENT.get(f"{base}/state").json()["versions"] != ["bb"]:
                assert not done.done()
            assert asks(port, "aa") == (400, "expected model bb; received 'aa'")
            assert asks(port) == 2.0
            assert not done.done()
        finally:
            goes.set()
        assert [one.result(PATIENT) for one in asked] == [7.0] * 3
        done.result(PATIENT)
        link.close()


def test_what_cannot_be_loaded_changes_nothing_and_is_one_line(caplog):
    app = app_of(A, B)

    def fail():
        raise ValueError("the artefact\nis damaged")

    with Server(app) as port:
        for load, why in (
            (fail, "the artefact"),
            (list, "one or more different versions"),
            (lambda: [B, B], "one or more different versions"),
            (lambda: [version("cc", 3.0, task={"name": "none", "config": {}})], "unknown task"),
        ):
            with pytest.raises(ValueError, match=why):
                app.versions.reload(load).result(PATIENT)
        assert [asks(port, "aa"), asks(port, "bb")] == [1.0, 2.0]
    assert "model aa, bb is served on: the artefact is damaged" in caplog.text


def test_each_reload_is_answered_by_a_line_however_soon_it_follows(caplog):
    def fail():
        raise ValueError("the artefact is damaged")

    caplog.set_level("INFO")
    caplog.handler.addFilter(repeats := RepeatFilter())  # as the command prints
    with Server(app := app_of(A)):
        for load in (fail, lambda: [B], fail, lambda: [A]):
            app.versions.reload(load).exception(PATIENT)
    caplog.handler.removeFilter(repeats)
    assert [line for line in caplog.messages if "model" in line] == [
        "model aa is served on: the artefact is damaged",
        "serving model bb",
        "model bb is served on: the artefact is damaged",
        "serving model aa",
    ]


def test_a_reload_takes_up_the_recalibration_of_each_version(tmp_path, toy_artifact, monkeypatch):
    folders = [shutil.copytree(toy_artifact, tmp_path / name / "artifact") for name in "ab"]
    forge(folders[1], lambda manifest: manifest | {"dataset": "another"})  # and identity
    loads = []

    def load_cloud(folder, key):  # without TensorFlow
        loads.append(folder)
        return A.model, served_manifest(folder), model_id(folder)

    monkeypatch.setattr(command, "load_cloud", load_cloud)
    load = command._loader(Namespace(run=folders, upstream=None, onward=None, verify_key=None))
    first, *others = load()

    def temperatures(port):
        return [temperature_of(port, served.identity) for served in (first, *others)]

    app = app_of(first, *others)
    shape = first.manifest["features"]["shape"]

    def temperature_of(port, model):
        headers, body = request(model, np.zeros((1, *shape), np.float16))
        answer = CLIENT.post(f"http://127.0.0.1:{port}{INFER}", headers=headers, content=body)
        told = decode(answer.headers, answer.content, "outputs").tensors["temperatures"]
        return float(told[0])

    with Server(app) as port:
        own = temperatures(port)
        told = {"local": 1.0, "cloud": 4.0}
        written = write_recalibration(folders[1], read_manifest(folders[1]), {"temperatures": told})
        app.versions.reload(load).result(PATIENT)
        assert temperatures(port) == [own[0], 4.0]
        before = [*app.versions]
        written.write_text("damaged")
        app.versions.reload(load).result(PATIENT)
        assert temperatures(port) == [own[0], 4.0]
        assert [*app.versions] == before
        written.unlink()
        app.versions.reload(load).result(PATIENT)
        assert temperatures(port) == own
    assert loads == folders


def test_nothing_is_reloaded_before_the_service_runs():
    with pytest.raises(Unavailable, match="not running"):
        app_of(A).versions.reload(lambda: [B])


def test_bodies_may_be_as_long_as_those_of_the_largest_version():
    sides = [200, 200, 3]
    large = version("bb", 2.0, features=SERVED["features"] | {"shape": sides})
    features = np.ones((20, *sides), np.float16)
    app = app_of(A)
    with Server(app) as port:
        link = CloudLink(f"http://127.0.0.1:{port}")

        def answer():
            return link.ask(*request("bb", features), time.monotonic() + PATIENT, said)

        with pytest.raises(Unanswered) as refused:
            answer()
        assert refused.value.cause == "too-long"
        app.versions.reload(lambda: [A, large]).result(PATIENT)
        assert answer() == 2.0
        link.close()


def test_the_command_loads_only_what_is_new(monkeypatch):
    places, loads = {"new": "aa", "old": "bb"}, []

    def load_cloud(run, key):
        loads.append(run)
        return served_of[places[run]]

    served_of = {"aa": A, "bb": B, "cc": version("cc", 3.0)}
    monkeypatch.setattr(command, "load_cloud", load_cloud)
    monkeypatch.setattr(command, "artifact_of", lambda run: run)
    monkeypatch.setattr(command, "model_id", places.get)
    monkeypatch.setattr(command, "served_manifest", lambda run, key, before: before)
    options = Namespace(run=["new", "old"], upstream=None, onward=None, verify_key=None)
    load = command._loader(options)
    assert load() == [A, B]
    places |= {"new": "cc", "old": "aa"}  # deployed, by links for example
    assert load() == [served_of["cc"], A]
    places |= {"new": "aa", "old": "cc"}  # and rolled back
    assert load() == [A, served_of["cc"]]
    assert loads == ["new", "old", "new"]
