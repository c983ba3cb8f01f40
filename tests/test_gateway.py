"""A gateway answers each sample once and in time, whatever its cameras and its cloud do."""

import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import product
from threading import Barrier, Lock, Semaphore
from unittest.mock import patch

import httpx
import keras
import numpy as np
import pytest
from certificates import make_certificate
from fastapi.testclient import TestClient
from fault_server import CLOUD_CLASS, FaultServer
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_service import Server

from keras_ddnn.deploy.artifact import save_policy
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.networks.architectures.views import ViewsOptions, build_views
from keras_ddnn.networks.cascade import as_cascade
from keras_ddnn.rules.confidence import Margin
from keras_ddnn.serve.cloud import logs, server
from keras_ddnn.serve.cloud.listening import tls_context
from keras_ddnn.serve.edge.answers import EdgeAnswer
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.gateway import __main__ as command
from keras_ddnn.serve.gateway.camera import Camera, send_frame
from keras_ddnn.serve.gateway.gathering import Gathering, SecondFrame
from keras_ddnn.serve.gateway.service import LIVE, make_gateway
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.causes import Unanswered
from keras_ddnn.serve.protocol.connection import Connection
from keras_ddnn.serve.protocol.wire import Tensor, encode
from keras_ddnn.training.capture import capture

PATIENT = 30.0  # seconds, where an answer comes long before
D, SHAPE = 4, (2, 2, 1)  # of the runtime below
REAL, CLASSES = (D, 16, 16, 1), ("a", "b", "c")  # of the artefact
NOWHERE = "http://127.0.0.1:9"


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Digits:
    """A runtime whose class is read off: digit k is the first pixel of the frame of camera k."""

    deadline_s = 0.25

    def __init__(self):
        self.manifest = {"input_shape": [D, *SHAPE], "input_dtype": "uint8"}
        self.calls, self.deadlines, self.broken = [], [], False
        self._lock = Lock()

    def predict(self, images, *, deadline):
        if self.broken:
            raise RuntimeError("no network")
        assert images.shape == (1, D, *SHAPE)
        classes = images[:, :, 0, 0, 0] @ 10 ** np.arange(D)[::-1]
        with self._lock:
            self.calls.append(int(classes[0]))
            self.deadlines.append(deadline)
        one = np.zeros(1, np.float32)
        no, none = np.zeros(1, bool), np.array([""])
        return EdgeAnswer(classes, one, no, none, 0.0, one[:, None], np.zeros(1, int), no)


def frame(digit) -> np.ndarray:
    return np.full(SHAPE, digit, np.uint8)


def told(future) -> tuple[int, tuple[int, ...]]:
    gathered = future.result(PATIENT)
    return int(gathered.answer.classes[0]), gathered.absent


@contextmanager
def gathering(runtime=None, clock=None, **options):
    """Yield a gathering whose time is a test's, unless it is told otherwise."""
    options = {"clock": clock or Clock(), "gather_s": 5.0} | options
    with Gathering(runtime or Digits(), **options) as gathered:
        yield gathered


# --- gathering --------------------------------------------------------------------------------


def test_a_sample_is_answered_once_when_all_cameras_have_sent_and_all_are_told_the_same():
    runtime = Digits()
    with gathering(runtime) as gathered:
        begin = time.monotonic()
        futures = [gathered.add("a", camera, frame(camera + 1)) for camera in (2, 0, 3, 1)]
        assert [told(future) for future in futures] == 4 * [(1234, ())]
        (deadline,) = runtime.deadlines
        assert begin <= deadline - runtime.deadline_s <= time.monotonic()
        assert gathered.open == 0
    assert runtime.calls == [1234]


def test_a_dead_camera_is_waited_for_until_the_time_since_the_first_frame_is_over():
    clock, runtime = Clock(), Digits()
    with gathering(runtime, clock) as gathered:
        first = gathered.add("a", 0, frame(1))
        clock.now += 3.0
        second = gathered.add("a", 3, frame(4))
        assert gathered.sweep() == 2.0
        clock.now += 1.9
        gathered.add("b", 1, frame(2))
        assert not first.done()
        clock.now += 0.1
        assert gathered.sweep() == pytest.approx(4.9)
        assert told(first) == told(second) == (1004, (1, 2))
        assert first.result().seconds == pytest.approx(5.0)
    assert Counter(runtime.calls) == Counter([1004, 200])


def test_time_is_looked_after_by_the_gathering_itself():
    with Gathering(Digits(), gather_s=0.01) as gathered:
        for sample in "ab":
            assert told(gathered.add(sample, 1, frame(2))) == (200, (0, 2, 3))


def test_a_late_frame_is_told_the_answer_and_changes_nothing():
    clock, runtime = Clock(), Digits()
    with gathering(runtime, clock, kept_s=10.0) as gathered:
        for camera in range(3):
            future = gathered.add("a", camera, frame(camera + 1))
        clock.now += 5.0
        gathered.sweep()
        assert told(future) == (1230, (3,))
        for digit in (4, 5):
            assert gathered.add("a", 3, frame(digit)).result() is future.result()
        assert runtime.calls == [1230]
        clock.now += 10.0
        again = gathered.add("a", 3, frame(4))  # the answer is not kept any longer
        assert not again.done()


def test_no_more_answers_are_kept_than_asked_for():
    with gathering(max_kept=2) as gathered:
        first = {name: answer_of(gathered, name) for name in "abc"}
        assert gathered.add("c", 0, frame(1)) is first["c"]
        assert gathered.add("b", 0, frame(1)) is first["b"]
        assert gathered.add("a", 0, frame(1)) is not first["a"]


def answer_of(gathered, sample):
    """Send the frames of all cameras, and wait."""
    futures = [gathered.add(sample, camera, frame(1)) for camera in range(D)]
    wait(futures, PATIENT)
    return futures[0]


@pytest.mark.parametrize(
    ("sample", "camera", "pixels", "words"),
    [
        ("a", 1, np.ones((2, 3, 1), np.uint8), r"uint8 of shape \(2, 2, 1\), received.*\(2, 3, 1"),
        ("a", 1, np.ones((1, *SHAPE), np.uint8), r"received uint8 of shape \(1, 2, 2, 1\)"),
        ("a", 1, np.full(SHAPE, np.nan, np.float32), "camera 1: .*received float32"),
        ("a", 1, b"\x01\x01\x01\x01", "received bytes"),
        ("a", 4, frame(1), r"camera: expected a number in 0\.\.3, received 4"),
        ("a", -1, frame(1), r"0\.\.3, received -1"),
        ("a", "1", frame(1), r"0\.\.3, received '1'"),
        ("", 1, frame(1), "id of a sample: expected a string of 1 to 128 characters"),
        (129 * "a", 1, frame(1), "1 to 128 characters, received 'a"),
        (7, 1, frame(1), "characters, received 7"),
    ],
)
def test_what_is_no_frame_is_refused_in_one_line_and_spoils_nothing(sample, camera, pixels, words):
    with gathering() as gathered:
        good = [gathered.add("a", place, frame(place + 1)) for place in (0, 2, 3)]
        with pytest.raises(ValueError, match=words) as error:
            gathered.add(sample, camera, pixels)
        assert "\n" not in str(error.value)
        assert gathered.open == 1
        good.append(gathered.add("a", 1, frame(2)))
        assert [told(future) for future in good] == 4 * [(1234, ())]


def test_of_two_different_frames_of_a_camera_the_first_counts():
    with gathering() as gathered:
        first = gathered.add("a", 0, frame(1))
        with pytest.raises(SecondFrame, match="camera 0 has sent another frame of sample 'a'"):
            gathered.add("a", 0, frame(9))
        assert gathered.add("a", 0, frame(1)) is first  # a request that was repeated
        for camera in (1, 2, 3):
            gathered.add("a", camera, frame(camera + 1))
        assert told(first) == (1234, ())
        with pytest.raises(SecondFrame):  # after the answer, too: as where an id is used again
            gathered.add("a", 0, frame(9))
        assert gathered.add("a", 0, frame(1)) is first


def test_a_frame_of_zeros_is_an_absent_camera_that_need_not_be_waited_for():
    with gathering() as gathered:
        futures = [gathered.add("a", camera, frame(digit)) for camera, digit in enumerate((1, 0))]
        with pytest.raises(SecondFrame):
            gathered.add("a", 1, frame(2))
        futures += [gathered.add("a", camera, frame(camera + 1)) for camera in (2, 3)]
        assert told(futures[0]) == (1034, (1,))


def test_no_more_samples_are_open_than_asked_for_and_those_get_their_frames():
    clock = Clock()
    with gathering(clock=clock, max_open=2) as gathered:
        a, b = gathered.add("a", 0, frame(1)), gathered.add("b", 0, frame(2))
        with pytest.raises(Unavailable, match="2 samples wait already"):
            gathered.add("c", 0, frame(3))
        for camera in (1, 2, 3):
            gathered.add("a", camera, frame(1))
        assert told(a) == (1111, ())
        c = gathered.add("c", 0, frame(3))
        clock.now += 5.0
        gathered.sweep()
        assert (told(b), told(c)) == ((2000, (1, 2, 3)), (3000, (1, 2, 3)))


def test_a_network_that_fails_is_told_to_all_and_the_sample_may_be_tried_again():
    runtime = Digits()
    runtime.broken = True
    with gathering(runtime) as gathered:
        futures = [gathered.add("a", camera, frame(1)) for camera in range(D)]
        for future in futures:
            with pytest.raises(Unavailable, match="the network failed"):
                future.result(PATIENT)
        assert gathered.open == 0
        runtime.broken = False
        assert told(answer_of(gathered, "a")) == (1111, ())


def test_the_end_answers_what_gathers_and_takes_no_more():
    with gathering() as gathered:
        future = gathered.add("a", 2, frame(3))
    assert told(future) == (30, (0, 1, 3))
    with pytest.raises(Unavailable, match="not running"):
        gathered.add("b", 2, frame(3))


def test_neither_the_buffer_of_a_camera_nor_the_end_of_a_caller_touches_the_others():
    with gathering() as gathered:
        buffer = frame(1)
        future = gathered.add("a", 0, buffer)
        buffer[:] = 9
        assert not future.cancel()
        for camera in (1, 2, 3):
            gathered.add("a", camera, frame(1))
        assert told(future) == (1111, ())


@pytest.mark.parametrize(
    ("shape", "dtype"), [([16, 16, 3], "uint8"), ([4, 16, 16, 1], "float32"), ([6], "float32")]
)
def test_an_artefact_of_no_cameras_is_refused(shape, dtype):
    runtime = Digits()
    runtime.manifest = {"input_shape": shape, "input_dtype": dtype}
    with pytest.raises(ValueError, match=rf"reads uint8 \(camera, .*received {dtype} of shape"):
        Gathering(runtime)


def number_of(sent) -> tuple[int, tuple[int, ...]]:
    """Return the class and the absent cameras of a sample of which these digits were sent."""
    digits = [sent.get(camera, 0) for camera in range(D)]
    absent = tuple(camera for camera, digit in enumerate(digits) if not digit)
    return int("".join(map(str, digits))), absent


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_in_whatever_order_frames_come_each_sample_gets_its_own(data):
    digits = st.dictionaries(st.integers(0, D - 1), st.integers(0, 9), min_size=1)
    samples = dict(enumerate(data.draw(st.lists(digits, min_size=1, max_size=6))))
    arrivals = [(s, k) for s, sent in samples.items() for k in sent]
    runtime = Digits()
    with gathering(runtime) as gathered:
        futures = [
            (s, gathered.add(str(s), k, frame(samples[s][k])))
            for s, k in data.draw(st.permutations(arrivals))
        ]
    for s, future in futures:
        assert told(future) == number_of(samples[s])
    assert sorted(runtime.calls) == sorted(number_of(sent)[0] for sent in samples.values())


def test_four_threads_send_many_samples_at_once_and_none_is_mixed_up():
    rng, count = np.random.default_rng(0), 200
    digits = rng.integers(0, 10, (count, D))
    runtime, begin = Digits(), Barrier(D)

    def camera(k):
        order = np.random.default_rng(k).permutation(count)
        begin.wait()
        return {s: gathered.add(f"sample {s}", k, frame(digits[s, k])) for s in order}

    with gathering(runtime, max_open=count) as gathered, ThreadPoolExecutor(D) as threads:
        sent = list(threads.map(camera, range(D)))
        for s in range(count):
            expected = number_of(dict(enumerate(digits[s].tolist())))
            assert [told(futures[s]) for futures in sent] == D * [expected]
    assert len(runtime.calls) == count


# --- over HTTP, with an artefact ----------------------------------------------------------------


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(1, 256, (12, *REAL)).astype(np.uint8)


@pytest.fixture(scope="module")
def artifact(frames, tmp_path_factory):
    """Return the folder of an artefact of four cameras that sends about half of the frames."""
    keras.utils.set_random_seed(0)
    options = ViewsOptions(filters=(2,), cloud_filters=(4,), cloud_units=(8,))
    cascade = as_cascade(build_views(REAL, len(CLASSES), options, "float32"))
    bank = capture(cascade, frames, np.zeros(len(frames), np.int64))
    threshold = float(np.median(Margin().score(bank.edge)))
    folder = tmp_path_factory.mktemp("gateway") / "artifact"
    save_policy(OffloadPolicy(cascade, None, Margin(), threshold, CLASSES), folder)
    return folder


class Gateway:
    """A gateway on a port of its own, whose time is a test's; `with Gateway(folder, cloud)`.

    Attributes:
        added: Released with each frame that is taken or refused by the gathering.
    """

    def __init__(self, folder, cloud=None, *, deadline_s=PATIENT, tls=None, **options):
        self.clock, self.added = Clock(), Semaphore(0)
        self._scheme = "https" if tls else "http"
        runtime = EdgeRuntime(folder, cloud, deadline_s=deadline_s)
        # The watch looks at this clock as often.
        options = {"clock": self.clock, "gather_s": 0.02} | options
        self._server = Server(make_gateway(runtime, **options), tls=tls)
        self._threads = ThreadPoolExecutor(2 * D)
        self._noted = patch.object(Gathering, "add", self._noting(Gathering.add))

    def _noting(self, add):
        def noted(*arguments):
            try:
                return add(*arguments)
            finally:
                self.added.release()

        return noted

    def __enter__(self):
        self._noted.start()
        self.url = f"{self._scheme}://127.0.0.1:{self._server.__enter__()}"
        return self

    def __exit__(self, *_):
        self._threads.shutdown()
        self._server.__exit__()
        self._noted.stop()

    def send(self, sample, camera, pixels, **options):
        """Send a frame, in a thread of its own."""
        options = {"deadline_s": PATIENT} | options
        return self._threads.submit(send_frame, self.url, sample, camera, pixels, **options)

    def put(self, body, path="/samples/a/cameras/3", **headers):
        """Send bytes, and wait."""
        return httpx.put(f"{self.url}{path}", content=body, headers=headers, timeout=PATIENT)

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"{self.url}/metrics").text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, value in lines}


def said(answer, row, absent, sample):
    """Return what a gateway must say of a row of what the runtime says."""
    return {
        "sample": sample,
        "class": answer.classes[row],
        "score": pytest.approx(answer.scores[row], abs=1e-6),
        "tier": answer.tiers[row],
        "offloaded": answer.offloaded[row],
        "fallback": answer.causes[row] or None,
        "fallback_behind": answer.fallback_behind[row],
        "absent": absent,
    }


def test_the_gateway_says_what_the_runtime_says_of_the_assembled_frames(artifact, frames):
    given = frames.copy()
    given[::3, 1] = 0  # a camera that sends zeros
    with FaultServer() as cloud:
        with EdgeRuntime(artifact, cloud.url, deadline_s=PATIENT) as runtime:
            expected = runtime.predict(given)
        assert 0 < expected.offloaded.sum() < len(given)
        with Gateway(artifact, cloud.url) as gateway:
            for row, views in enumerate(given):
                sample = f"{row}/é"  # whatever a user calls it
                sent = [gateway.send(sample, k, views[k]) for k in (3, 1, 0, 2)]
                absent = [1] if row % 3 == 0 else []
                for answer in sent:
                    assert answer.result() == said(expected, row, absent, sample)
            counted = gateway.metrics()
    assert counted['ddnn_gateway_samples_total{absent="0"}'] == 8
    assert counted['ddnn_gateway_samples_total{absent="1"}'] == 4
    assert counted['ddnn_gateway_absent_total{camera="1"}'] == 4
    assert counted['ddnn_gateway_absent_total{camera="0"}'] == 0
    assert counted["ddnn_gateway_gather_seconds_count"] == 12
    assert counted["ddnn_gateway_open_samples"] == 0
    assert counted['ddnn_edge_samples_total{answer="cloud"}'] == expected.offloaded.sum()


def sends_nothing(gateway, pixels):
    return [3]


def comes_late(gateway, pixels):
    return [3]  # see the end of the test below


def sends_zeros(gateway, pixels):
    gateway.send("a", 3, 0 * pixels)
    assert gateway.added.acquire(timeout=PATIENT)
    return [3]


def sends_another_shape(gateway, pixels):
    with pytest.raises(Unanswered, match=r"HTTP 400: the frame of camera 3: expected uint8 of"):
        gateway.send("a", 3, pixels[:8]).result()
    return [3]


def sends_another_type(gateway, pixels):
    headers, body = encode([Tensor("frame", np.full(pixels.shape, np.nan, np.float32))])
    refused = gateway.put(body, **headers)
    assert refused.status_code == 400
    assert "received float32 of shape" in refused.json()["error"]
    return [3]


def sends_garbage(gateway, pixels):
    """Send bytes that are no frame: half of one, NaN as raw bytes, messages that are none."""
    headers, body = encode([Tensor("frame", pixels)])
    other_headers, other = encode([Tensor("image", pixels)])
    for refused in (
        gateway.put(pixels.tobytes()[:100]),
        gateway.put(np.full(pixels.shape, np.nan, np.float32).tobytes()),
        gateway.put(b""),
        gateway.put(body[:-1], **headers),
        gateway.put(pixels.tobytes(), **headers),
        gateway.put(other, **other_headers),
    ):
        assert refused.status_code == 400, refused.text
        assert "\n" not in refused.json()["error"]
    return [3]


def sends_by_no_number(gateway, pixels):
    for number in (4, 10**30, -1):
        refused = gateway.put(pixels.tobytes(), f"/samples/a/cameras/{number}")
        assert refused.status_code == 400
        assert "camera: expected a number in 0..3" in refused.json()["error"]
    return [3]


def sends_as_another(gateway, pixels):
    with pytest.raises(Unanswered, match="HTTP 409: camera 0 has sent another frame"):
        gateway.send("a", 0, pixels).result()
    return [3]


def sends_twice(gateway, pixels):
    gateway.send("a", 3, pixels)
    assert gateway.added.acquire(timeout=PATIENT)
    with pytest.raises(Unanswered, match="HTTP 409: camera 3 has sent another frame"):
        gateway.send("a", 3, pixels ^ 1).result()
    return []


DEAD_OR_SLOW = (sends_nothing, comes_late)
LYING = (
    *(sends_zeros, sends_another_shape, sends_another_type, sends_garbage),
    *(sends_by_no_number, sends_as_another, sends_twice),
)


@pytest.mark.parametrize(
    ("fourth", "cloud_fault"),
    [
        *product(DEAD_OR_SLOW, ("none", "closed_at_once", "hanging")),
        *product(LYING, ("none", "closed_at_once")),
    ],
    ids=lambda fault: getattr(fault, "__name__", fault),
)
def test_a_sample_is_answered_and_marked_whatever_one_camera_and_the_cloud_do(
    artifact, frames, fourth, cloud_fault
):
    healthy = cloud_fault == "none"
    with (
        FaultServer(cloud_fault) as cloud,
        Gateway(
            artifact, cloud.url, deadline_s=0.1 if cloud_fault == "hanging" else PATIENT
        ) as gateway,
    ):
        views = sent_on(artifact, frames, without_fourth=fourth is not sends_twice)
        others = [gateway.send("a", k, views[k]) for k in range(3)]
        for _ in others:
            assert gateway.added.acquire(timeout=PATIENT)
        absent = fourth(gateway, views[3])
        gateway.clock.now += 1.0
        (answer, *more) = [future.result() for future in others]
        assert more == 2 * [answer]
        if fourth is comes_late:
            assert gateway.send("a", 3, views[3]).result() == answer
        counted = gateway.metrics()
    local = local_class(artifact, views, absent)
    assert answer["absent"] == absent
    assert answer["offloaded"]
    assert answer["class"] == (CLOUD_CLASS if healthy else local)
    assert answer["tier"] == int(healthy)
    causes = {"none": {None}, "closed_at_once": {"connection"}, "hanging": {"time-out", "no-time"}}
    assert answer["fallback"] in causes[cloud_fault]
    assert counted[f'ddnn_gateway_samples_total{{absent="{len(absent)}"}}'] == 1
    assert sum(counted[f'ddnn_gateway_samples_total{{absent="{n}"}}'] for n in range(D + 1)) == 1


def sent_on(artifact, frames, without_fourth):
    """Return the frames of a sample that the device sends on."""
    seen = frames.copy()
    if without_fourth:
        seen[:, 3] = 0
    with EdgeRuntime(artifact) as runtime:
        return frames[np.argmax(runtime.predict(seen).offloaded)]


def local_class(artifact, views, absent):
    seen = views.copy()
    seen[absent] = 0
    with EdgeRuntime(artifact) as runtime:
        return runtime.predict(seen[None]).classes[0]


def test_a_gateway_whose_cloud_is_not_there_answers_by_itself(artifact, frames):
    with EdgeRuntime(artifact) as runtime:
        expected = runtime.predict(frames)
    with Gateway(artifact, NOWHERE) as gateway:
        for row, views in enumerate(frames):
            sent = [gateway.send(str(row), k, views[k]) for k in range(D)]
            for answer in (future.result() for future in sent):
                assert answer["class"] == expected.classes[row]
                fell_back = answer["fallback"] in ("connection", "circuit-open")
                assert fell_back == expected.offloaded[row]


def test_many_samples_at_once_over_http_are_not_mixed_up(artifact, frames):
    with EdgeRuntime(artifact) as runtime:
        expected = runtime.predict(frames)

    def camera(k):
        order = np.random.default_rng(k).permutation(len(frames))
        with ThreadPoolExecutor(len(frames)) as pool:
            args = [(gateway.url, str(row), k, frames[row, k]) for row in order]
            sent = [pool.submit(send_frame, *given, deadline_s=PATIENT) for given in args]
            return [future.result() for future in sent]

    with Gateway(artifact) as gateway, ThreadPoolExecutor(D) as threads:
        for answers in threads.map(camera, range(D)):
            for answer in answers:
                row = int(answer["sample"])
                assert answer["score"] == pytest.approx(expected.scores[row], abs=1e-6)
                assert (answer["class"], answer["absent"]) == (expected.classes[row], [])


def test_raw_pixels_are_a_frame_and_what_is_full_or_no_path_is_refused(artifact, frames):
    pixels = frames[0, 3].tobytes()
    with Gateway(artifact, max_open=1) as gateway:
        waits = gateway.send("a", 0, frames[0, 0])
        assert gateway.added.acquire(timeout=PATIENT)
        with pytest.raises(Unanswered, match="HTTP 503: 1 samples wait already") as error:
            gateway.send("b", 0, frames[0, 0]).result()
        assert error.value.rest >= 1.0
        assert gateway.added.acquire(timeout=PATIENT)
        assert gateway.put(pixels, "/samples/a").status_code == 404
        path = f"{gateway.url}/samples/a/cameras/3"
        assert httpx.post(path, content=pixels).headers["allow"] == "PUT"
        assert gateway.put(bytes(1 << 15)).status_code == 413
        taken = gateway._threads.submit(gateway.put, pixels)
        assert gateway.added.acquire(timeout=PATIENT)
        gateway.clock.now += 1.0
        assert taken.result().json() == waits.result()
        assert waits.result()["absent"] == [1, 2]
        assert httpx.get(f"{gateway.url}/v2/health/ready").json() == {"ready": True}
        counted = gateway.metrics()
    for status in (404, 405, 413, 503):
        assert counted[f'ddnn_gateway_refused_total{{status="{status}"}}'] == 1


def test_a_token_is_asked_for_and_travels_encrypted(artifact, frames, tmp_path):
    certificate, key = make_certificate(tmp_path)
    timed = {"gather_s": 0.01, "clock": time.monotonic}
    with Gateway(artifact, token="secret", tls=tls_context(certificate, key), **timed) as gateway:
        with pytest.raises(Unanswered, match="HTTP 401"):
            gateway.send("a", 0, frames[0, 0], ca=certificate).result()
        said = gateway.send("a", 0, frames[0, 0], ca=certificate, token="secret").result()
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate)) as client:
            statuses = [client.get(gateway.url + path).status_code for path in ("/metrics", LIVE)]
    assert said["absent"] == [1, 2, 3]
    assert statuses == [401, 200]


def test_a_camera_keeps_its_connection_from_frame_to_frame(artifact, frames):
    timed, dial = {"gather_s": 0.01, "clock": time.monotonic}, Connection.connect
    with (
        patch.object(Connection, "connect", autospec=True, side_effect=dial) as dialled,
        Gateway(artifact, **timed) as gateway,
        Camera(gateway.url, 3) as camera,
    ):
        said = [camera.send(row, frames[0, 3], deadline_s=PATIENT) for row in "ab"]
        with pytest.raises(Unanswered, match="HTTP 400"):
            camera.send("c", frames[0, 3, :2], deadline_s=PATIENT)
        said.append(camera.send("d", frames[0, 3], deadline_s=PATIENT))
    assert [answer["sample"] for answer in said] == ["a", "b", "d"]
    assert dialled.call_count == 1


def test_a_gateway_that_is_not_there_is_one_line(frames):
    with pytest.raises(Unanswered, match="refused") as error:
        send_frame(NOWHERE, "a", 0, frames[0, 0])
    assert error.value.cause == "connection"


PIXELS = np.ones((2, 2, 1), np.uint8)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"frame": PIXELS.tolist()}, r"frame: expected an array, uint8 of .*received list"),
        ({"frame": PIXELS.astype(int)}, r"frame: expected .*received int64 of shape \(2, 2, 1\)"),
        ({"frame": PIXELS[0]}, r"frame: expected .*received uint8 of shape \(2, 1\)"),
        ({"sample": 7}, "the id of a sample: expected a string .*received 7"),
        ({"deadline_s": float("nan")}, "deadline_s must be positive; received nan"),
        *(({"camera": wrong}, f"camera: expected .*received {wrong}") for wrong in (-1, True, 1.0)),
    ],
)
def test_what_no_gateway_would_take_is_refused_before_it_is_sent(changed, words):
    """Nobody listens there, so that sending would be `Unanswered`."""
    with pytest.raises(ValueError, match=words):
        send_frame(**{"url": NOWHERE, "sample": "a", "camera": 0, "frame": PIXELS} | changed)


def test_a_closed_camera_sends_nothing():
    with Camera(NOWHERE, 0) as camera:
        pass
    with pytest.raises(ValueError, match="expected a camera that is open"):
        camera.send("a", PIXELS)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Return what runs the command, and returns its one line."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["gateway", *map(str, arguments), "--port", "0"])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        return said

    return run


def test_the_command_refuses_in_one_line_before_it_serves(run_command, artifact, tmp_path):
    for option, expected in {
        "--gather-ms": "a number above 0",
        "--keep-ms": "a number above 0",
        "--max-open": "an integer above 0",
    }.items():
        said = run_command(artifact, option, 0)
        assert f"argument {option}: expected {expected}; received '0'" in said
    assert "expected --token-file" in run_command(artifact, "--host", "0.0.0.0")
    assert "none" in run_command(tmp_path / "none")
    with FaultServer("wrong_token") as cloud:
        said = run_command(artifact, "--cloud", cloud.url)
    assert "the cloud refuses this device (unauthorised)" in said


def test_the_command_gathers_until_a_signal(artifact, frames, monkeypatch, capsys):
    """Its server runs as long as it takes to ask it, in place of a signal."""

    class Asked:
        def __init__(self, app, most, tls):
            self.app = app

        def run(self, sockets):
            with TestClient(self.app) as client:
                path = "/samples/a/cameras/2"
                said.update(client.put(path, content=frames[0, 2].tobytes()).json())
            sockets[0].close()
            raise KeyboardInterrupt

    said = {}
    monkeypatch.setattr(server, "server_of", Asked)
    monkeypatch.setattr(logs, "log_to_stderr", lambda: None)
    arguments = ["--port", "0", "--gather-ms", "5", "--allow-host", "testserver"]
    monkeypatch.setattr("sys.argv", ["gateway", str(artifact), *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 130
    assert capsys.readouterr().err.endswith("interrupted: the gateway has ended\n")
    assert said["absent"] == [0, 1, 3]
