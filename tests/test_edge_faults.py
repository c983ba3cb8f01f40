"""Whatever the network does, a device answers in time and says what it could not ask."""

import gc
import socket
import time

import numpy as np
import pytest
from conftest import toy_split
from fault_server import CLOUD_CLASS, FAULTS, HEALTHY, TOKEN, FaultServer
from stalls import WaitForCores

from keras_ddnn.serve.edge.runtime import EdgeRuntime

IMAGES = toy_split(100, 3).images
DEADLINE = 0.06  # seconds
PATIENT = 10.0  # seconds, where the cloud is well and the machine may be busy
FEW = 20  # images, of which a device offloads more than it takes to open the breaker
BROKEN = [name for name in FAULTS if name not in HEALTHY]


def make_runtime(folder, url, **options):
    defaults = {"deadline_s": DEADLINE, "rest_s": 0.05}
    return EdgeRuntime(folder, url, **(defaults | options))


@pytest.fixture(scope="module")
def local(toy_artifact):
    """Return the answers of a device without a cloud."""
    gc.freeze()  # to look through what TensorFlow has made takes longer than any deadline
    return EdgeRuntime(toy_artifact).predict(IMAGES)


def ask_one_by_one(runtime, requests, slack):
    """Return the answers to single images, each of them in time."""
    answers = []
    for k in range(requests):
        image, waits = IMAGES[k % len(IMAGES)][None], WaitForCores()
        begin = time.monotonic()
        answers.append(runtime.predict(image))
        late = time.monotonic() - begin - runtime.deadline_s
        assert late < slack or late - waits.seconds() < slack
    return answers


def check_fallback(answers, local):
    """Check that the local network has answered all, marked where the cloud should have."""
    for k, answer in enumerate(answers):
        k %= len(IMAGES)
        assert answer.offloaded == answer.fallback == local.offloaded[k]
        assert answer.classes == local.classes[k]


def check_healthy(runtime, requests, local):
    """Check that the cloud answers what it should, given the time that it takes here."""
    deadline, runtime.deadline_s = runtime.deadline_s, PATIENT
    answers = ask_one_by_one(runtime, requests, 0.5)
    runtime.deadline_s = deadline
    for k, answer in enumerate(answers):
        k %= len(IMAGES)
        assert not answer.fallback
        assert answer.classes == (CLOUD_CLASS if answer.offloaded else local.classes[k])


def wait_for_recovery(runtime):
    """Ask until the cloud has answered again; the breaker tries it within its rest."""
    deadline, runtime.deadline_s = runtime.deadline_s, PATIENT
    until = time.monotonic() + PATIENT
    while runtime.predict(IMAGES).fallback.any():
        assert time.monotonic() < until
        time.sleep(0.01)
    runtime.deadline_s = deadline
    assert runtime.breaker == "closed"


def check_fault(folder, local, fault, requests, slack, **options):
    options |= {"token": "wrong"}  # to which one of the faults objects
    with FaultServer(fault) as server, make_runtime(folder, server.url, **options) as runtime:
        check_fallback(ask_one_by_one(runtime, requests, slack), local)
        assert runtime.breaker == "open"
        numbers = runtime.metrics.numbers()
        assert numbers["local"] + numbers["fallback"] == requests
        assert numbers["cloud"] == 0
        server.fault = "none"
        wait_for_recovery(runtime)
        check_healthy(runtime, min(requests, 100), local)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_device_survives(toy_artifact, local, fault):
    check_fault(toy_artifact, local, fault, FEW, slack=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_a_thousand_requests_survive(toy_artifact, local, fault):
    check_fault(toy_artifact, local, fault, 1000, slack=0.02, rest_s=0.001)


def refused():
    """Return the URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def absent():
    """Return the URL of a machine that answers nothing: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = []
        for _ in range(4):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for sock in waiting:
            sock.close()


def test_a_refused_connection_costs_no_answer(toy_artifact, local):
    with make_runtime(toy_artifact, refused()) as runtime:
        check_fallback(ask_one_by_one(runtime, FEW, 0.5), local)
        assert runtime.breaker == "open"


def test_an_absent_cloud_costs_no_more_than_the_deadline(toy_artifact, local, absent):
    with make_runtime(toy_artifact, absent, rest_s=0.001) as runtime:
        answers = ask_one_by_one(runtime, FEW, 0.5)
        check_fallback(answers, local)
        assert max(answer.seconds for answer in answers) > 0.9 * DEADLINE  # it did wait


def test_a_name_that_nobody_knows_costs_no_answer(toy_artifact, local):
    with make_runtime(toy_artifact, "http://cloud.invalid:8080") as runtime:
        check_fallback(ask_one_by_one(runtime, 4, 0.5), local)


@pytest.mark.slow
def test_a_thousand_requests_survive_a_cloud_that_is_not_there(toy_artifact, local, absent):
    for url in (refused(), absent):
        with make_runtime(toy_artifact, url, rest_s=0.001) as runtime:
            check_fallback(ask_one_by_one(runtime, 1000, 0.02), local)


def check_restart(folder, local, requests, slack):
    with FaultServer() as server, make_runtime(folder, server.url) as runtime:
        check_healthy(runtime, requests, local)
        server.close()
        check_fallback(ask_one_by_one(runtime, requests, slack), local)
        with FaultServer(port=server.port):
            wait_for_recovery(runtime)
            check_healthy(runtime, requests, local)


def test_a_cloud_restarted_midway_is_found_again(toy_artifact, local):
    check_restart(toy_artifact, local, FEW, 0.5)


@pytest.mark.slow
def test_a_thousand_requests_survive_a_restart(toy_artifact, local):
    check_restart(toy_artifact, local, 1000, 0.02)


def test_a_restart_between_two_requests_goes_unnoticed(toy_artifact, local):
    with FaultServer() as server, make_runtime(toy_artifact, server.url) as runtime:
        check_healthy(runtime, FEW, local)
        server.close()
        with FaultServer(port=server.port):
            check_healthy(runtime, FEW, local)


def check_half_open(folder, local, requests, slack, **options):
    """A machine that lost power sends no farewell: the connection stays, and says nothing."""
    with FaultServer() as server, make_runtime(folder, server.url, **options) as runtime:
        check_healthy(runtime, FEW, local)
        server.fault = "hanging"
        check_fallback(ask_one_by_one(runtime, requests, slack), local)
        server.fault = "none"
        wait_for_recovery(runtime)


def test_a_half_open_connection_is_given_up(toy_artifact, local):
    check_half_open(toy_artifact, local, FEW, 0.5)


@pytest.mark.slow
def test_a_thousand_requests_survive_half_open_connections(toy_artifact, local):
    check_half_open(toy_artifact, local, 1000, 0.02, rest_s=0.001)


def test_a_cloud_that_closes_idle_connections_answers_all(toy_artifact, local):
    with (
        FaultServer("closed_when_idle") as server,
        make_runtime(toy_artifact, server.url) as runtime,
    ):
        check_healthy(runtime, 20, local)


def test_the_right_token_is_accepted(toy_artifact, local):
    with (
        FaultServer("wrong_token") as server,
        make_runtime(toy_artifact, server.url, token=TOKEN) as runtime,
    ):
        check_healthy(runtime, FEW, local)


def test_an_open_breaker_leaves_the_cloud_alone(toy_artifact):
    with (
        FaultServer("error_500") as server,
        make_runtime(toy_artifact, server.url, rest_s=60.0) as runtime,
    ):
        runtime.score_threshold = -np.inf
        for _ in range(20):
            runtime.predict(IMAGES[:1])
        assert len(server.requests) == 3


def test_time_spent_on_this_side_is_not_held_against_the_cloud(toy_artifact):
    with FaultServer() as server, make_runtime(toy_artifact, server.url) as runtime:
        runtime.score_threshold, runtime.deadline_s = -np.inf, 1e-9
        for _ in range(10):
            assert runtime.predict(IMAGES[:1]).fallback.all()
        assert runtime.breaker == "closed"
        assert not server.requests
