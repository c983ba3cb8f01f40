"""A device, a fog and a cloud answer as their cascade does, and each tier falls back on its own."""

import time
from contextlib import ExitStack, contextmanager

import httpx
import keras
import numpy as np
import pytest
from fault_server import CLOUD_CLASS, FAULTS, HEALTHY, FaultServer
from toy_networks import image_data, policy_of_three, three_tiers
from toy_service import Server

from keras_ddnn import load_tiers, save_policy, save_tiers
from keras_ddnn.data.bank import Bank
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.manifest import hops_of, model_id, read_manifest
from keras_ddnn.networks.compose import chain
from keras_ddnn.rules.confidence import Gate, Margin, Patience
from keras_ddnn.serve.cloud.__main__ import main as serve
from keras_ddnn.serve.cloud.fog import load_fog
from keras_ddnn.serve.cloud.network import load_cloud
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.demo import running_cloud
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.serve.protocol.wire import decode

IMAGES = image_data(96)[0]
PATIENT = 30.0  # seconds that a device waits, where its fog has an answer long before
SHORT = 0.2  # seconds that a fog waits for its cloud
NOWHERE = "http://127.0.0.1:9"
BROKEN = [name for name in FAULTS if name not in (*HEALTHY, "wrong_token")]
OF_EACH_KIND = (
    *("hanging", "slow", "dripping_body", "closed_at_once", "error_500", "busy_503"),
    *("not_http", "nan_logits", "wrong_tiers", "wrong_fallback"),
)


@pytest.fixture(scope="module")
def three() -> tuple[OffloadPolicy, Bank]:
    return policy_of_three()


@pytest.fixture(scope="module")
def tiers(three, tmp_path_factory):
    """Return the folder of a chain of three tiers, to be read only."""
    folder = tmp_path_factory.mktemp("three") / "tiers"
    policy, bank = three
    save_tiers(policy, folder, val_bank=bank)
    return folder


@pytest.fixture(scope="module")
def by_hand(three):
    """Return what each tier says of `IMAGES`, and what the first two send on."""
    policy, bank = three
    said = [tier.outputs.argmax(axis=1) for tier in bank.tiers.values()]
    first, second = (
        gate.sends_on(bank.at(name)) for gate, name in zip(policy.gates, ("local", "tier1"))
    )
    return *said, first, first & second


@contextmanager
def served(loaded, **options):
    """Serve what `load_cloud` or `load_fog` returns; yield the URL."""
    network, manifest, identity = loaded
    with Server(make_app(network, manifest, identity=identity, **options)) as port:
        yield f"http://127.0.0.1:{port}"


def fog_of(tiers, url, **options):
    """Return a fog that waits `SHORT` for its cloud, whether or not a device says how long."""
    waits = {"deadline_s": SHORT, "reserve": PATIENT - SHORT, "rest_s": 0.01, "failures": 1}
    options = waits | options
    return load_fog(tiers / "0", url, **options)


def device_of(tiers, url, **options):
    return EdgeRuntime(tiers / "0", url, **({"deadline_s": PATIENT} | options))


def test_three_services_answer_as_the_cascade_in_memory(tiers, three):
    classes, places = three[0].route(IMAGES)
    assert min(np.bincount(places, minlength=3)) > 10
    with (
        served(load_cloud(tiers / "1")) as cloud,
        served(fog_of(tiers, cloud, deadline_s=PATIENT, reserve=0.0)) as fog,
        device_of(tiers, fog) as device,
    ):
        answer = device.predict(IMAGES)
        told = {url: httpx.get(f"{url}/state").json() for url in (fog, cloud)}
    np.testing.assert_array_equal(answer.classes, classes)
    np.testing.assert_array_equal(answer.logits.argmax(axis=1), classes)
    np.testing.assert_array_equal(answer.tiers, places)
    np.testing.assert_array_equal(answer.offloaded, places > 0)
    assert not answer.fallback.any()
    assert device.metrics.by_tier() == dict(enumerate(np.bincount(places)))
    # Each service hears of what was answered before it, as far as it was asked since.
    assert told[fog]["samples"]["offloaded"] == (places > 0).sum()
    assert told[cloud]["samples"]["offloaded"] == (places > 1).sum()
    assert told[fog]["behind"]["cloud"] == (places > 1).sum()
    assert told[cloud]["behind"] is None


def check_own_answers(answer, by_hand):
    """Check that the fog has answered, in time and marked, what its cloud should have."""
    local, own, _, first, second = by_hand
    np.testing.assert_array_equal(answer.classes, np.where(first, own, local))
    np.testing.assert_array_equal(answer.tiers, first)
    np.testing.assert_array_equal(answer.fallback, second)
    np.testing.assert_array_equal(answer.fallback_behind, second)
    assert not (answer.causes != "").any()


def wait_for_recovery(device):
    until = time.monotonic() + PATIENT
    while (answer := device.predict(IMAGES)).fallback.any():
        assert time.monotonic() < until
        time.sleep(0.01)
    return answer


def of_each_kind(faults):
    """Return parameters of which one of a kind is fast enough for every run."""
    return [
        fault if fault in OF_EACH_KIND else pytest.param(fault, marks=pytest.mark.slow)
        for fault in faults
    ]


@pytest.mark.parametrize("fault", of_each_kind(BROKEN))
def test_a_fog_survives_its_cloud(tiers, by_hand, fault):
    local, own, _, first, second = by_hand
    with FaultServer(fault) as cloud:
        loaded = fog_of(tiers, cloud.url)
        with served(loaded) as fog, device_of(tiers, fog) as device:
            for _ in range(2):
                check_own_answers(device.predict(IMAGES), by_hand)
            assert device.metrics.numbers()["fallback_behind"] == 2 * second.sum()
            told, state = httpx.get(f"{fog}/metrics").text, httpx.get(f"{fog}/state").json()
            cloud.fault = "none"
            loaded[0].runtime.deadline_s = PATIENT
            object.__setattr__(loaded[0], "reserve", 0.0)
            answer = wait_for_recovery(device)
    causes = state["behind"]["causes"]
    assert sum(causes.values()) == 2 * second.sum()
    for cause, count in causes.items():
        assert f'ddnn_edge_fallback_samples_total{{cause="{cause}"}} {float(count)}' in told
    assert "ddnn_edge_breaker_open" in told
    assert state["behind"]["breaker"] == "open" or set(causes) == {"no-time"}
    np.testing.assert_array_equal(answer.tiers, first.astype(int) + second)
    expected = np.where(second, CLOUD_CLASS, np.where(first, own, local))
    np.testing.assert_array_equal(answer.classes, expected)


def test_a_fog_whose_cloud_is_dead_answers_by_itself(tiers, by_hand):
    with served(fog_of(tiers, NOWHERE)) as fog, device_of(tiers, fog) as device:
        check_own_answers(device.predict(IMAGES), by_hand)
        assert set(httpx.get(f"{fog}/state").json()["behind"]["causes"]) <= {
            "connection",
            "circuit-open",
        }


@pytest.mark.parametrize("fault", of_each_kind(BROKEN))
def test_a_device_survives_its_fog(tiers, by_hand, fault):
    local, _, _, first, _ = by_hand
    with FaultServer(fault) as fog, device_of(tiers, fog.url, deadline_s=SHORT) as device:
        answer = device.predict(IMAGES)
    np.testing.assert_array_equal(answer.classes, local)
    np.testing.assert_array_equal(answer.fallback, first)
    np.testing.assert_array_equal(answer.offloaded, first)
    np.testing.assert_array_equal(answer.causes != "", first)
    assert not answer.tiers.any()
    assert not answer.fallback_behind.any()


def test_a_device_survives_a_fog_that_dies_while_the_cloud_lives(tiers, by_hand):
    local, _, _, first, _ = by_hand
    with served(load_cloud(tiers / "1")) as cloud, ExitStack() as fog:
        url = fog.enter_context(served(fog_of(tiers, cloud, deadline_s=PATIENT, reserve=0.0)))
        with device_of(tiers, url) as device:
            assert not device.predict(IMAGES).fallback.any()
            fog.close()
            answer = device.predict(IMAGES)
    np.testing.assert_array_equal(answer.classes, local)
    np.testing.assert_array_equal(answer.fallback, first)
    assert not answer.tiers.any()


def test_marks_of_the_tiers_behind_are_passed_on(tiers, by_hand):
    first = by_hand[3]
    with FaultServer("from_behind") as fog, device_of(tiers, fog.url) as device:
        answer = device.predict(IMAGES)
    np.testing.assert_array_equal(answer.tiers, 2 * first)
    np.testing.assert_array_equal(answer.fallback, first)
    assert not (answer.causes != "").any()


def timeouts(server):
    return [decode(*request).parameters.get("timeout") for request in server.requests]


def test_a_device_says_how_long_it_waits_once_it_knows_that_the_service_listens(tiers):
    with FaultServer("from_behind") as new, device_of(tiers, new.url, deadline_s=20.0) as device:
        device.predict(IMAGES)
        first, *others = timeouts(new)
    assert first is None
    assert others
    assert all(0 < microseconds <= 20_000_000 for microseconds in others)
    with FaultServer() as old, device_of(tiers, old.url) as device:
        for _ in range(2):
            device.predict(IMAGES)
        assert {*timeouts(old)} == {None}


def test_a_service_that_an_older_one_has_replaced_is_told_no_timeout(tiers):
    with FaultServer("from_behind") as server, device_of(tiers, server.url) as device:
        device.predict(IMAGES)
        server.fault = "refuses_timeout"
        answers = [device.predict(IMAGES) for _ in range(2)]
    assert {*answers[0].causes} >= {"refused-400"}
    assert not answers[1].fallback.any()


def test_a_deadline_shrinks_by_the_reserve_on_the_way(tiers):
    fog, _, _ = load_fog(tiers / "0", NOWHERE, deadline_s=0.2, reserve=0.05)
    assert fog.deadline(10.0, timeout=0.25) == pytest.approx(10.2)
    assert fog.deadline(10.0, timeout=None) == pytest.approx(10.2)
    assert fog.deadline(10.0, timeout=2.0) == pytest.approx(11.95)
    assert fog.deadline(10.0, timeout=1e6) == pytest.approx(20.0)  # a client may say anything


def test_a_fog_that_has_no_time_to_ask_answers_at_once(tiers, by_hand):
    with FaultServer() as cloud:
        fog, _, _ = load_fog(tiers / "0", cloud.url)
        said = fog.answer(np.zeros((3, 8, 8, 4), np.float16), time.monotonic() - 1.0)
        assert not cloud.requests
    assert not said.tiers.any()
    causes = fog.runtime.metrics.causes()
    assert set(causes) <= {"no-time"}
    assert sum(causes.values()) == said.fallback.sum()


def test_answers_of_an_older_service_are_those_of_its_own_network():
    logits = np.eye(2, 3, dtype=np.float32)
    said = Answers.of_tensors({"logits": logits}, 2, 3)
    assert (said.tiers.tolist(), said.fallback.tolist()) == ([0, 0], [False, False])
    assert not said.takes_timeout


def test_the_artefacts_decide_as_the_cascade(tiers, three, by_hand):
    local, own, last, first, second = by_hand
    device, fog = load_tiers(tiers)
    features = three[1].tiers["local"].features[:].astype(np.float32)
    np.testing.assert_array_equal(device.decide(IMAGES), first)
    np.testing.assert_array_equal(device.predict(IMAGES)[0], np.where(first, own, local))
    np.testing.assert_array_equal(fog.decide(features)[first], second[first])
    np.testing.assert_array_equal(
        fog.predict(features)[0][first], np.where(second, last, own)[first]
    )


def test_a_hop_is_planned_on_the_samples_that_reach_it(tiers, three, by_hand):
    """Where all of those stay, the accuracy is that of the tier on them."""
    local, own, last, first, _ = by_hand
    labels = image_data(96)[1]
    plans = [read_manifest(hop)["plan"] for hop in hops_of(tiers)]
    stays = [max(plan, key=lambda point: point["local_fraction"]) for plan in plans]
    assert [point["local_fraction"] for point in stays] == [1.0, 1.0]
    assert stays[0]["accuracy"] == pytest.approx(np.mean(local == labels))
    assert stays[1]["accuracy"] == pytest.approx(np.mean((own == labels)[first]))
    goes = min(plans[0], key=lambda point: point["local_fraction"])
    policy, bank = three
    behind = np.where(policy.gates[1].sends_on(bank.at("tier1")), last, own)
    few = goes["local_fraction"]
    assert few < 0.1
    assert goes["accuracy"] == pytest.approx(np.mean(behind == labels), abs=few + 1e-9)


def test_of_two_tiers_the_one_hop_is_the_artefact_of_the_policy(toy_policy, tmp_path):
    save_tiers(toy_policy, tmp_path / "tiers", graphs=False)
    save_policy(toy_policy, tmp_path / "artifact", graphs=False)
    (hop,) = hops_of(tmp_path / "tiers")
    manifests = [read_manifest(folder) for folder in (hop, tmp_path / "artifact")]
    for manifest in manifests:
        manifest["sha256"].pop("ddnn.weights.h5")  # holds when it was written
    assert manifests[0] == manifests[1]
    assert hops_of(tmp_path) == [tmp_path / "artifact"]


def with_gates(policy, *gates):
    first, *later = gates
    given = first.rule, first.score_threshold, policy.class_names
    return OffloadPolicy(policy.model, None, *given, later=later)


def test_tiers_are_saved_all_or_not_at_all(three, tmp_path, monkeypatch):
    """What cannot be kept is refused before the first of the artefacts is made."""
    policy, bank = three
    monkeypatch.setattr("keras_ddnn.deploy.tiers.save_policy", None)
    impatient = with_gates(policy, policy.gates[0], Gate(Patience(), 0.5))
    with pytest.raises(ValueError, match=r"keeps a rule that is one of .*; received Patience"):
        save_tiers(impatient, tmp_path / "tiers")
    closed = with_gates(policy, Gate(Margin(), np.inf), policy.gates[1])
    with pytest.raises(ValueError, match=r"val_bank at tier1: expected samples .*none of 96"):
        save_tiers(closed, tmp_path / "tiers", val_bank=bank)
    with pytest.raises(ValueError, match="val_bank: expected outputs of 3 tiers"):
        save_tiers(policy, tmp_path / "tiers", val_bank=bank.gate("tier1"))
    assert not any(tmp_path.iterdir())


def test_a_failure_at_a_later_hop_leaves_what_was_there(three, tmp_path, monkeypatch):
    policy, _ = three
    save_tiers(policy, tmp_path / "tiers", graphs=False)
    before = [model_id(hop) for hop in hops_of(tmp_path / "tiers")]

    def fail_at_the_second(hop, folder, **options):
        if folder.name == "1":
            raise OSError("no space left")
        save_policy(hop, folder, **options)

    monkeypatch.setattr("keras_ddnn.deploy.tiers.save_policy", fail_at_the_second)
    with pytest.raises(OSError, match="no space left"):
        save_tiers(policy, tmp_path / "tiers", graphs=False)
    assert [model_id(hop) for hop in hops_of(tmp_path / "tiers")] == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_hop_reads_float32_whatever_the_tiers_compute_in():
    """A device has no bfloat16; a feature travels as float16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        hop = three_tiers().hop(1)
    finally:
        keras.config.set_dtype_policy(before)
    assert hop.reads.dtype == "float32"
    assert hop.tiers[0].sent_dtype == "float16"


def test_inputs_travel_through_a_fog_as_they_came(three):
    """Of a chain of models, each tier reads the images; the second hop is one of images too."""
    models = {tier.name: tier.model for tier in three[0].cascade.tiers}
    first = models["local"]
    network = first.__class__(first.input, first.output["outputs"])
    cascade = chain({"local": network, "tier1": network, "cloud": network})
    hop = cascade.hop(1)
    assert hop.tiers[0].sends_inputs
    assert (hop.reads.shape, hop.reads.dtype) == ((16, 16, 3), "uint8")
    with pytest.raises(ValueError, match="place: expected 0 to 1, received 2"):
        cascade.hop(2)


def test_a_fog_is_refused_an_artefact_that_reads_something_else(tiers, tmp_path):
    with pytest.raises(ValueError, match="expected --onward, the artefact of the next two tiers"):
        load_fog(tiers / "1", NOWHERE)
    with pytest.raises(ValueError, match=r"of input_shape \[8, 8, 4\]; received one of \[16, 16"):
        load_fog(tiers / "0", NOWHERE, tiers / "0")


def test_the_command_says_in_one_line_that_a_fog_has_nobody_to_ask(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cloud", "run", "--port", "0", "--onward", "other"])
    with pytest.raises(SystemExit) as end:
        serve()
    assert end.value.code == 2
    assert "expected --upstream, which service to ask" in capsys.readouterr().err


@pytest.mark.slow
def test_three_processes_answer_as_the_cascade_in_memory(tiers, three):
    classes, places = three[0].route(IMAGES)
    patient = ["--upstream-deadline-ms", str(1e3 * PATIENT), "--reserve-ms", "0"]
    with (
        running_cloud(tiers / "1") as cloud,
        running_cloud(tiers / "0", "--upstream", f"http://127.0.0.1:{cloud}", *patient) as fog,
        device_of(tiers, f"http://127.0.0.1:{fog}") as device,
    ):
        answer = device.predict(IMAGES)
    np.testing.assert_array_equal(answer.classes, classes)
    np.testing.assert_array_equal(answer.tiers, places)
    assert not answer.fallback.any()
