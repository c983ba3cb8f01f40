"""The command of a device says why a cloud does not answer, and ends where it never would."""

import logging
import os
import re
import signal
import socket
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
from conftest import toy_split, untrained_policy
from fault_server import FaultServer
from PIL import Image
from toy_service import Server

from keras_ddnn.deploy.artifact import save_policy
from keras_ddnn.files.manifest import model_id, read_manifest
from keras_ddnn.serve.cloud.kept import KeptSamples
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.edge.__main__ import main
from keras_ddnn.serve.edge.runtime import EdgeRuntime

SPLIT = toy_split(100, 3)
TOKEN = "right"
PATIENT = ["--deadline-ms", "20000"]


def network(features):
    """Return logits of three classes, of which the last is the highest."""
    return np.tile(np.arange(3, dtype=np.float32), (len(features), 1))


def service(folder, network=network, **options):
    """Return the real service around a toy network, for the devices of an artefact."""
    defaults = {"identity": model_id(folder), "token": TOKEN, "max_wait": 0.0}
    return make_app(network, read_manifest(folder), **(defaults | options))


@contextmanager
def served(app):
    with Server(app) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return a folder of images in folders by class."""
    folder = tmp_path_factory.mktemp("images")
    for k, (image, label) in enumerate(zip(SPLIT.images, SPLIT.labels)):
        (folder / "abc"[label]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "abc"[label] / f"{k}.png")
    return folder


@pytest.fixture
def token_file(tmp_path):
    def write(token):
        path = tmp_path / "token"
        path.write_bytes(token.encode() if isinstance(token, str) else token)
        return str(path)

    return write


def refused_in_one_line(capsys, *arguments):
    """Return the line with which the command ends, after checking its exit code."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert ending.value.code == 2
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    return line


def test_a_mistyped_token_ends_the_command_in_one_line(toy_artifact, images, token_file, capsys):
    with served(service(toy_artifact)) as url:
        arguments = [toy_artifact, "--cloud", url, "--images", images, *PATIENT]
        line = refused_in_one_line(capsys, *arguments, "--token-file", token_file("wrong"))
        assert "unauthorised" in line
        main([*map(str, arguments), "--token-file", token_file(TOKEN)])
    report = capsys.readouterr().out
    assert "because of" not in report


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"identity": "0" * 16}, "", "wrong-model"),
        ({"max_bytes": 100}, "", "too-long"),
        ({}, "/elsewhere", "not-found"),
        ({}, "/v2", "without /v2"),
    ],
)
def test_a_cloud_that_never_would_answer_ends_the_command(
    toy_artifact, images, token_file, capsys, change, path, words
):
    with served(service(toy_artifact, **change)) as url:
        arguments = [toy_artifact, "--cloud", url + path, "--images", images, *PATIENT]
        assert words in refused_in_one_line(capsys, *arguments, "--token-file", token_file(TOKEN))


def test_a_service_that_never_would_answer_is_known_before_images_are_read(
    toy_artifact, token_file, tmp_path, capsys
):
    with served(service(toy_artifact)) as url:
        arguments = [toy_artifact, "--cloud", url, "--images", tmp_path / "none", *PATIENT]
        line = refused_in_one_line(capsys, *arguments, "--token-file", token_file("wrong"))
    assert "unauthorised" in line


def test_a_refusal_after_the_first_answer_is_counted_by_cause(
    toy_artifact, images, token_file, capsys, caplog
):
    app, asked = service(toy_artifact), []

    async def with_a_new_token(scope, receive, send):
        """Take the device's token for ten requests; then somebody changes it."""
        if scope["type"] == "http":
            asked.append(scope["path"])
            if len(asked) > 10:
                scope["headers"] = [h for h in scope["headers"] if h[0] != b"authorization"]
        await app(scope, receive, send)

    with served(with_a_new_token) as url, caplog.at_level(logging.WARNING, "keras_ddnn"):
        arguments = [toy_artifact, "--cloud", url, "--images", images, *PATIENT]
        main([*map(str, arguments), "--token-file", token_file(TOKEN)])
    report = capsys.readouterr().out
    offloaded = EdgeRuntime(toy_artifact).predict(SPLIT.images).offloaded.sum()
    rows = [row.split(":") for row in report.splitlines() if "because of" in row]
    counts = {what.split()[-1]: int(count) for what, count in rows}
    assert sum(counts.values()) == offloaded - 9  # the first request was the command's own
    assert counts["unauthorised"] >= 1
    told = [record.getMessage() for record in caplog.records]
    assert sum("(unauthorised)" in line for line in told) == 1
    assert f"unauthorised {counts['unauthorised']}" in told[-1]


def test_a_cloud_that_is_away_for_a_while_ends_nothing(toy_artifact, images, capsys):
    with FaultServer("error_500") as server:
        main([str(toy_artifact), "--cloud", server.url, "--images", str(images), *PATIENT])
    assert "because of server-error" in capsys.readouterr().out


def test_hard_images_wait_on_disk_for_the_next_run_and_then_arrive(
    toy_artifact, images, token_file, tmp_path, capsys
):
    arguments = [toy_artifact, "--images", images, "--spool", tmp_path / "spool", *PATIENT]
    main([*map(str, arguments), "--cloud", "http://127.0.0.1:9"])  # where nobody listens
    report = capsys.readouterr().out
    assert "because of" not in report
    assert "memory of this process, at its peak" in report
    waiting = re.search(r"on disk, to be sent by the next run\W+(\d+)", report)
    with EdgeRuntime(toy_artifact) as alone:
        read = alone.predict(SPLIT.images)
    hard = read.offloaded.sum()
    assert 0 < hard == int(waiting[1])
    assert f", 0 fallback, {hard} deferred" in report
    background = re.search(r"answered here, and sent in the background\W+(\d+)", report)
    assert int(background[1]) == hard
    arguments += ["--limit", 1, "--token-file", token_file(TOKEN)]
    with served(service(toy_artifact, keep=KeptSamples(tmp_path / "kept"))) as url:
        main([*map(str, arguments), "--cloud", url])
    assert "on disk" not in capsys.readouterr().out
    # The image that the second run has met again is kept once.
    assert len([*tmp_path.glob("kept/images/c/*.png")]) == hard


def test_a_check_says_what_it_finds(toy_artifact, token_file, capsys):
    with served(service(toy_artifact)) as url:
        arguments = [str(toy_artifact), "--cloud", url, "--check", "--batch", "4", *PATIENT]
        with pytest.raises(SystemExit) as ending:
            main([*arguments, "--token-file", token_file(TOKEN)])
    assert ending.value.code == 0
    found = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    found = {name: fact.strip() for name, fact in found.items()}
    assert (found["reachable"], found["answer"]) == ("yes", "yes")
    assert found["artefact"] == f"{model_id(toy_artifact)}, the cloud's too"
    assert found["round trip"].endswith(" ms")
    assert found["a sample"] == "512 bytes"
    assert found["a request"] == "at most 256 samples, 4,194,304 bytes"
    assert found["this request"].startswith("4 samples, 2,")


def test_a_check_says_that_it_asks_about_fewer_images_than_it_was_told(
    toy_artifact, token_file, capsys
):
    flags = ["--check", "--batch", "100000", "--token-file", token_file(TOKEN), *PATIENT]
    with served(service(toy_artifact)) as url, pytest.raises(SystemExit) as ending:
        main([str(toy_artifact), "--cloud", url, *flags])
    assert ending.value.code == 0
    (line,) = [li for li in capsys.readouterr().out.splitlines() if li.startswith("this request")]
    assert "32 samples" in line
    assert line.endswith("--batch asks for 100,000, no more go at once")


@pytest.mark.parametrize(
    ("token", "identity", "facts"),
    [
        ("wrong", None, ("reachable:    yes", "no (unauthorised)", "nothing is known")),
        (TOKEN, "0" * 16, ("reachable:    yes", "no (wrong-model)", "serves another")),
    ],
)
def test_a_check_says_why_there_is_no_answer(
    toy_artifact, token_file, capsys, token, identity, facts
):
    app = service(toy_artifact, **({"identity": identity} if identity else {}))
    flags = ["--check", "--token-file", token_file(token), *PATIENT]
    with served(app) as url, pytest.raises(SystemExit) as ending:
        main([str(toy_artifact), "--cloud", url, *flags])
    assert ending.value.code == 2
    printed = capsys.readouterr().out
    assert all(fact in printed for fact in facts)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_a_check_of_a_cloud_that_is_not_there_says_so(toy_artifact, capsys):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(SystemExit) as ending:
        main([str(toy_artifact), "--cloud", url, "--check"])
    assert ending.value.code == 2
    assert "reachable:    no" in capsys.readouterr().out


def test_metrics_are_served_while_the_command_runs(toy_artifact, images, token_file, capsys):
    port, seen = free_port(), []

    def network_that_looks(features):
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            seen.append(answer.read().decode())
        return network(features)

    with served(service(toy_artifact, network_that_looks)) as url:
        arguments = [str(toy_artifact), "--cloud", url, "--images", str(images), *PATIENT]
        main([*arguments, "--token-file", token_file(TOKEN), "--metrics-port", str(port)])
    offloaded = EdgeRuntime(toy_artifact).predict(SPLIT.images).offloaded.sum()
    assert len(seen) == offloaded + 1  # and the command's own request
    assert f'ddnn_edge_samples_total{{answer="cloud"}} {offloaded - 1.0}' in seen[-1]
    assert f"http://127.0.0.1:{port}/metrics" in capsys.readouterr().out
    with pytest.raises(URLError):
        urlopen(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_metrics_port_out_of_range_is_refused(toy_artifact, images, capsys, port):
    arguments = [toy_artifact, "--images", images, f"--metrics-port={port}"]
    assert f"0..65535; received {port}" in refused_in_one_line(capsys, *arguments)


def test_a_metrics_port_in_use_is_refused(toy_artifact, images, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = [toy_artifact, "--images", images, "--metrics-port", port]
        line = refused_in_one_line(capsys, *arguments)
    assert f"127.0.0.1:{port}: Address already in use" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--token-file", "nowhere"],
            "--token-file nowhere: No such file or directory: name a file",
        ),
        (["--token-file", "/"], "--token-file /: Is a directory: name a file that holds the token"),
        (["--batch", "0"], "argument --batch: expected an integer above 0; received '0'"),
        (["--limit", "0"], "argument --limit: expected an integer above 0; received '0'"),
        (["--max-bytes", "500"], "received 500: raise it (--max-bytes)"),
        (["--deadline-ms", "nan"], "argument --deadline-ms: expected a number above 0; received"),
        (["--deadline-ms", "-1"], "argument --deadline-ms: expected a number above 0; received"),
        (["--format", "jsonl"], "expected --output beside --format; received --format alone"),
        (["--spool-bytes", "9"], "expected --spool beside --spool-bytes; received --spool-bytes"),
        (["--spool", "s"], "expected --cloud beside --spool; received --spool alone"),
        (["--spool", "s", "--cloud", "u", "--guard"], "expected no --guard beside --spool"),
        (["--images", "nophotos"], "--images: expected a folder, received nophotos"),
        (["--threshold", "nan"], "argument --threshold: expected a number; received 'nan'"),
        (["--threshold", "much"], "argument --threshold: expected a number; received 'much'"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    toy_artifact, images, capsys, flags, message
):
    assert message in refused_in_one_line(capsys, toy_artifact, "--images", images, *flags)


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (" \n", "received an empty file"),
        ("schlüssel", "printable ASCII"),
        (b"\xff", "printable ASCII"),
    ],
)
def test_a_token_file_that_holds_none_is_refused(
    toy_artifact, images, token_file, capsys, token, message
):
    flags = ["--token-file", token_file(token)]
    assert message in refused_in_one_line(capsys, toy_artifact, "--images", images, *flags)


def test_a_check_needs_a_cloud(toy_artifact, capsys):
    assert "--check expects --cloud" in refused_in_one_line(capsys, toy_artifact, "--check")


def test_grey_images_are_read_by_a_device_of_grey_images(tmp_path, capsys):
    policy, split = untrained_policy((16, 16, 1)), toy_split(6, 3, shape=(16, 16, 1))
    save_policy(policy, tmp_path / "artifact")
    for k, (image, label) in enumerate(zip(split.images, split.labels)):
        for what in ("train", "test"):
            folder = tmp_path / "data" / what / "abc"[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(folder / f"{k}.png")
    right = (
        EdgeRuntime(tmp_path / "artifact").predict(split.images).classes == split.labels
    ).mean()
    for source in (["--images", tmp_path / "data" / "test"], ["--dataset", tmp_path / "data"]):
        main([str(tmp_path / "artifact"), *map(str, source)])
        assert f"{right:.2%}" in capsys.readouterr().out


def test_what_a_device_sends_at_once_is_no_longer_than_it_is_told(toy_artifact, images, capsys):
    with FaultServer() as server:
        flags = ["--batch", "32", "--max-bytes", "2000", *PATIENT]
        main([str(toy_artifact), "--cloud", server.url, "--images", str(images), *flags])
        sizes = [len(body) for _, body in server.requests]
    assert 1500 < max(sizes) <= 2000
    assert "because of" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_the_command_with_what_it_has_done_so_far(
    toy_artifact, images, monkeypatch, capsys, number, code, word
):
    predict, batches = EdgeRuntime.predict, []

    def predict_and_interrupt(self, *arguments):
        batches.append(arguments)
        if len(batches) == 4:
            os.kill(os.getpid(), number)
        return predict(self, *arguments)

    monkeypatch.setattr(EdgeRuntime, "predict", predict_and_interrupt)
    with pytest.raises(SystemExit) as ending:
        main([str(toy_artifact), "--images", str(images), "--batch", "10"])
    assert ending.value.code == code
    printed = capsys.readouterr()
    assert printed.err == f"{word}: 30 of 100 images are classified\n"
    assert "30 images" in printed.out
    assert "accuracy" in printed.out


def test_a_signal_before_the_first_image_is_one_line(toy_artifact, images, monkeypatch, capsys):
    monkeypatch.setattr(
        EdgeRuntime, "predict", lambda *_: os.kill(os.getpid(), signal.SIGINT) or 1 / 0
    )
    with pytest.raises(SystemExit) as ending:
        main([str(toy_artifact), "--images", str(images)])
    assert ending.value.code == 130
    printed = capsys.readouterr()
    assert printed.err == "interrupted: no image is classified yet\n"
    assert printed.out == ""
