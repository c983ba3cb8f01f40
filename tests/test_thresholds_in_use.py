"""A device's threshold, budget, probabilities and predictions, as they are asked for in use."""

import csv
import io
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_split
from fault_server import CLOUD_CLASS, FaultServer
from PIL import Image
from toy_manifest import CONTENT, forge

from keras_ddnn.files.fields.content import check_content
from keras_ddnn.files.manifest import read_manifest
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.edge.sending.budget import SendingBudget, TokenBucket
from keras_ddnn.serve.edge.telling.predictions import COLUMNS
from keras_ddnn.serve.protocol.answers import PROBABILITIES, Answers
from keras_ddnn.serve.protocol.wire import decode, encode
from keras_ddnn.tasks.temperature import fit_temperature, probabilities_at

IMAGES = toy_split(40, 3).images
PATIENT = 30.0  # seconds, where nothing is about time


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


def device(folder, server, **options):
    return EdgeRuntime(folder, server.url, deadline_s=PATIENT, **options)


# ---- thresholds


def test_a_call_has_a_threshold_of_its_own(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    own = runtime.score_threshold
    answer = runtime.predict(IMAGES, score_threshold=-1.0)
    assert answer.offloaded.all()
    assert (answer.settings.score_threshold, answer.settings.source) == (-1.0, "call")
    assert runtime.score_threshold == own
    assert runtime.predict(IMAGES).settings.source == "artifact"


def test_a_threshold_that_was_set_is_taken_back_by_none(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    own = runtime.score_threshold
    runtime.score_threshold = 2.0
    assert runtime.predict(IMAGES).settings.source == "set"
    runtime.score_threshold = None
    assert runtime.score_threshold == own


def test_a_call_is_decided_by_one_threshold_while_others_are_set(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    images = np.tile(IMAGES, (3, 1, 1, 1))  # of several batches

    def ask(turn):
        runtime.score_threshold = (-1.0, 2.0)[turn % 2]
        return runtime.predict(images)

    with ThreadPoolExecutor(4) as threads:
        for answer in threads.map(ask, range(12)):
            sends = answer.settings.score_threshold == -1.0
            np.testing.assert_array_equal(answer.offloaded, sends)


def test_a_guard_refuses_a_threshold_beside_it(toy_artifact):
    runtime = EdgeRuntime(toy_artifact, guarded=True)
    with pytest.raises(ValueError, match="leave out the threshold or the guard"):
        runtime.score_threshold = 0.5
    with pytest.raises(ValueError, match="leave out the threshold or the guard"):
        runtime.predict(IMAGES, score_threshold=0.5)


def test_metrics_say_whose_threshold_decided(toy_artifact):
    runtime = EdgeRuntime(toy_artifact)
    runtime.predict(IMAGES[:3])
    runtime.predict(IMAGES[:2], score_threshold=0.75)
    text = runtime.metrics.text()
    assert 'ddnn_edge_threshold_samples_total{source="artifact"} 3.0' in text
    assert 'ddnn_edge_threshold_samples_total{source="call"} 2.0' in text
    assert "ddnn_edge_score_threshold 0.75" in text


# ---- budgets


def test_a_bucket_fills_evenly_up_to_a_minute():
    clock = Clock()
    bucket = TokenBucket(60, clock)
    bucket.take(60)
    clock.now = 2.5
    assert bucket.tokens == pytest.approx(2.5)
    clock.now = 1000.0
    assert bucket.tokens == 60


def test_beyond_the_samples_of_a_minute_the_device_answers(toy_artifact, server):
    clock = Clock()
    budget = SendingBudget(samples_per_minute=6, clock=clock)
    with device(toy_artifact, server, budget=budget) as runtime:
        first = runtime.predict(IMAGES[:10], score_threshold=-1.0)
        clock.now = 20.0  # a third of a minute: two more
        second = runtime.predict(IMAGES[:10], score_threshold=-1.0)
        text = runtime.metrics.text()
    assert first.causes.tolist() == [""] * 6 + ["over-budget"] * 4
    assert second.causes.tolist() == [""] * 2 + ["over-budget"] * 8
    assert (first.classes[:6] == CLOUD_CLASS).all()
    assert first.tiers[6:].tolist() == [0] * 4
    assert 'ddnn_edge_fallback_samples_total{cause="over-budget"} 12.0' in text


def test_no_more_bytes_are_sent_than_a_minute_has(toy_artifact, server):
    most = 2000  # a sample has 512, and a request less than 400 beside
    budget = SendingBudget(bytes_per_minute=most, clock=Clock())
    with device(toy_artifact, server, budget=budget) as runtime:
        answers = [runtime.predict(IMAGES[:2], score_threshold=-1.0) for _ in range(4)]
        assert 512 * 2 < runtime.metrics.numbers()["sent_bytes"] <= most
    assert sum((answer.causes == "over-budget").sum() for answer in answers) == 5


def test_what_was_not_sent_after_all_is_given_back(toy_artifact):
    budget = SendingBudget(samples_per_minute=5, clock=Clock())
    runtime = EdgeRuntime(toy_artifact, budget=budget)  # there is no cloud
    for _ in range(3):
        assert (runtime.predict(IMAGES[:5], score_threshold=-1.0).causes == "no-cloud").all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples_per_minute": 0}, "samples_per_minute must be a positive integer"),
        ({"bytes_per_minute": 100}, "expected a budget of at least"),
    ],
)
def test_a_budget_that_lets_nothing_through_is_refused(toy_artifact, options, words):
    with pytest.raises(ValueError, match=words):
        EdgeRuntime(toy_artifact, budget=SendingBudget(**options))


# ---- probabilities


def test_a_temperature_makes_probabilities_as_right_as_the_network():
    # Sure of class 0 by e^2 : 1, and right in three of four: p must be 3/4, so that 2 / T = log 3.
    logits = np.tile(np.float32([2.0, 0.0]), (4, 1))
    temperature = fit_temperature(logits, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(2 / np.log(3))
    found = probabilities_at(logits, np.full(4, temperature))
    np.testing.assert_allclose(found[:, 0], 0.75, rtol=1e-6)


@pytest.mark.parametrize(
    ("labels", "temperature"), [([0, 0], 1 / 20), ([1, 1], 20.0)], ids=["right", "wrong"]
)
def test_a_temperature_stays_within_its_bounds(labels, temperature):
    logits = np.float32([[2.0, 0.0], [1.0, 0.0]])
    assert fit_temperature(logits, np.array(labels)) == pytest.approx(temperature)


def test_logits_that_say_nothing_have_the_temperature_1():
    assert fit_temperature(np.ones((3, 2), np.float32), np.array([0, 1, 1])) == 1.0


def test_each_answer_has_the_temperature_of_the_tier_that_made_it(tmp_path, toy_artifact, server):
    folder = shutil.copytree(toy_artifact, tmp_path / "artifact")
    told = {"local": 2.0, "cloud": 0.5}
    forge(folder, lambda manifest: manifest | {"temperatures": told})
    with device(folder, server) as runtime:
        answer = runtime.predict(IMAGES)
    expected = np.where(answer.offloaded, 0.5, 2.0)
    np.testing.assert_array_equal(answer.temperatures, expected)
    powers = np.exp(answer.logits.astype(float) / expected[:, None])
    np.testing.assert_allclose(
        answer.probabilities, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5
    )


def test_of_a_tier_behind_the_cloud_the_wire_tells_the_temperature(toy_artifact, server):
    def fault(server, sock, headers, body):
        count = len(decode(headers, body).tensors["features"])
        said = Answers.of_one_tier(np.zeros((count, 3), np.float32), 4.0)
        tensors = replace(said, tiers=np.arange(count) % 2).as_tensors()
        headers, body = encode(tensors, kind="outputs")
        told = "".join(
            f"{k}: {v}\r\n" for k, v in ({"Content-Length": len(body)} | headers).items()
        )
        sock.sendall(f"HTTP/1.1 200 OK\r\n{told}\r\n".encode() + body)
        return True

    server.fault = fault
    with device(toy_artifact, server) as runtime:
        answer = runtime.predict(IMAGES[:4], score_threshold=-1.0)
    own = np.float32(runtime.manifest["temperatures"]["cloud"])
    assert answer.tiers.tolist() == [1, 2, 1, 2]
    assert answer.temperatures.tolist() == [own, 4.0, own, 4.0]


def test_an_artefact_is_saved_with_temperatures(toy_artifact):
    assert set(read_manifest(toy_artifact)["temperatures"]) == {"local", "cloud"}


@pytest.mark.parametrize(
    ("temperatures", "words"),
    [
        ({"local": 0.0, "cloud": 1.0}, "temperatures.local: expected a number in (0, "),
        ({"local": 1.0}, "temperatures.cloud: expected this field"),
    ],
)
def test_a_manifest_of_bad_temperatures_is_refused(temperatures, words):
    content = {**CONTENT, "schema": 6, "sha256": {}}
    check_content({**content, "temperatures": {"local": 0.5, "cloud": 2.0}})
    with pytest.raises(ValueError, match=re.escape(words)):
        check_content({**content, "temperatures": temperatures})


def test_an_older_artefact_has_the_temperature_1_and_says_so(tmp_path, toy_artifact, caplog):
    folder = shutil.copytree(toy_artifact, tmp_path / "artifact")
    forge(folder, lambda manifest: {k: v for k, v in manifest.items() if k != "temperatures"})
    runtime = EdgeRuntime(folder)
    for _ in range(2):
        answer = runtime.predict(IMAGES[:2])
        assert (answer.temperatures == 1.0).all()
        assert answer.probabilities.sum(axis=1) == pytest.approx(1.0)
    said = [record for record in caplog.records if "temperature 1" in record.getMessage()]
    assert len(said) == 1


def test_the_wire_gives_probabilities_where_they_are_asked_for():
    logits = np.float32([[0.0, 2.0 * np.log(3.0)]])
    answers = Answers.of_one_tier(logits, 2.0)
    assert [tensor.name for tensor in answers.as_tensors()][-1] == "temperatures"
    (tensor,) = answers.as_tensors([PROBABILITIES])
    np.testing.assert_allclose(tensor.array, [[0.25, 0.75]], rtol=1e-6)


# ---- predictions


@pytest.fixture
def photos(tmp_path):
    for k, image in enumerate(IMAGES[:12]):
        folder = tmp_path / "photos" / "abc"[k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k:02}.png")
    return tmp_path / "photos"


def command(artifact, photos, server, *options):
    url = ["--cloud", server.url] if server else []
    main([str(artifact), "--images", str(photos), "--deadline-ms", "30000", *url, *options])


def test_predictions_are_written_as_csv(toy_artifact, photos, server, tmp_path):
    file = tmp_path / "answers.csv"
    command(toy_artifact, photos, server, "--output", str(file), "--threshold=-1")
    rows = list(csv.DictReader(file.open(newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert [row["id"] for row in rows[:2]] == ["a/00.png", "a/03.png"]
    assert {row["class"] for row in rows} == {str(CLOUD_CLASS)}
    assert {row["name"] for row in rows} == {"c"}
    assert {(row["answered_by"], row["why"]) for row in rows} == {("cloud", "threshold reached")}


def test_standard_output_holds_predictions_alone(toy_artifact, photos, server, capsys):
    command(toy_artifact, photos, server, "--output", "-", "--format", "jsonl", "--threshold", "2")
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert len(rows) == 12
    assert all(set(row) == set(COLUMNS) for row in rows)
    assert {(row["answered_by"], row["why"]) for row in rows} == {("local", "below threshold")}
    assert all(1 / 3 <= row["probability"] <= 1 for row in rows)
    assert "threshold 2 (set)" in printed.err


def test_a_quiet_command_prints_its_predictions_alone(toy_artifact, photos, capsys):
    command(toy_artifact, photos, None, "--output", "-", "--quiet")
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 13
    assert printed.err == ""


def test_predictions_and_a_report_for_scripts_do_not_share_standard_output(
    toy_artifact, photos, capsys
):
    with pytest.raises(SystemExit) as ended:
        command(toy_artifact, photos, None, "--output", "-", "--json")
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "give --output a file" in printed.err


def test_csv_on_standard_output_has_one_header(toy_artifact, photos, capsys):
    command(toy_artifact, photos, None, "--output", "-", "--batch", "5")
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == list(COLUMNS)
    assert len(rows) == 13


def test_a_prediction_over_budget_says_why(toy_artifact, photos, server, tmp_path):
    file = tmp_path / "answers.jsonl"
    limits = ["--max-samples-per-minute", "4", "--threshold=-1", "--batch", "12"]
    command(toy_artifact, photos, server, "--output", str(file), "--format", "jsonl", *limits)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["why"] for row in rows].count("over-budget") == 8
    assert {row["answered_by"] for row in rows if row["why"] == "over-budget"} == {"local"}


def test_a_file_that_cannot_be_written_is_refused_before_images_are_read(
    toy_artifact, tmp_path, capsys
):
    with pytest.raises(SystemExit) as ending:
        command(toy_artifact, tmp_path / "none", None, "--output", str(tmp_path / "no" / "x.csv"))
    assert ending.value.code == 2
    assert "--output: expected a file in a folder that can be written" in capsys.readouterr().err
