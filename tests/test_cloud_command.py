"""What the cloud's command refuses before it loads anything, and the names it answers to."""

import asyncio
import os
import signal
import socket
import sys

import pytest
from certificates import make_certificate
from fastapi.testclient import TestClient
from toy_service import SERVED, app_of, served_network

from keras_ddnn.serve.cloud import __main__ as cloud
from keras_ddnn.serve.cloud import logs, server
from keras_ddnn.serve.cloud.service import make_app


@pytest.fixture
def run_command(monkeypatch, capsys):
    """Return what runs the command on a run that is not there, and returns its one line."""

    def run(*arguments, lines=1):
        monkeypatch.setattr(sys, "argv", ["cloud", "no-such-run", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cloud.main()
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith("error: ")
        assert said.count("\n") == lines
        return said

    return run


def test_other_machines_need_a_token_unless_the_command_says_otherwise(run_command, tmp_path):
    said = run_command("--host", "0.0.0.0", "--port", 0)
    assert "expected --token-file" in said
    assert "--no-token" in said
    assert "no-such-run" in run_command("--host", "0.0.0.0", "--port", 0, "--no-token")
    assert "no-such-run" in run_command("--host", "localhost", "--port", 0)
    (tmp_path / "token").write_text("secret\n")
    said = run_command(
        "--host", "0.0.0.0", "--port", 0, "--token-file", tmp_path / "token", lines=2
    )
    assert "the token travels unencrypted" in said
    certificate, key = make_certificate(tmp_path)
    tls = ["--tls-certificate", certificate, "--tls-key", key]
    token = ["--token-file", tmp_path / "token"]
    assert "no-such-run" in run_command("--host", "0.0.0.0", "--port", 0, *token, *tls)


def test_a_port_in_use_is_one_line_before_anything_is_loaded(run_command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run_command("--port", port)
    assert f"port {port}: Address already in use" in said
    assert "must lie in 0..65535; received 70000" in run_command("--port", 70000)
    assert "cannot listen at no.such.host.invalid" in run_command("--host", "no.such.host.invalid")


def test_a_certificate_that_cannot_serve_is_one_line(run_command, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    certificate, key = make_certificate(tmp_path / "one")
    _, another = make_certificate(tmp_path / "two")
    assert "expected both" in run_command("--tls-certificate", certificate)
    said = run_command("--tls-certificate", certificate, "--tls-key", another)
    assert "the key does not belong to the certificate" in said
    for files in ((key, certificate), (certificate, tmp_path / "no")):
        said = run_command("--tls-certificate", files[0], "--tls-key", files[1])
        assert "expected a certificate and its key" in said


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--max-bytes", 0), "argument --max-bytes: expected an integer above 0; received '0'"),
        (("--queue", 0), "argument --queue: expected an integer above 0; received '0'"),
        (("--max-wait-ms", "nan"), "argument --max-wait-ms: expected a number from 0 on"),
        (("--max-delay-ms", -1), "argument --max-delay-ms: expected a number above 0"),
        (("--keep", "k", "--keep-bytes", 0), "argument --keep-bytes: expected an integer above 0"),
        (("--keep-bytes", 10), "expected --keep beside --keep-bytes; received --keep-bytes alone"),
        (("--port", "x"), "argument --port: expected an integer; received 'x'"),
    ],
)
def test_a_number_out_of_range_is_one_line(run_command, arguments, why):
    assert why in run_command("--port", 0, *arguments)


def test_all_paths_are_looked_at_before_the_first_is_loaded(run_command, monkeypatch):
    monkeypatch.setattr(cloud, "load_cloud", lambda *_: pytest.fail("it is loaded"))
    assert "nothere/artifact holds no readable" in run_command("nothere", "--port", 0)


@pytest.mark.parametrize("text", ["", "päss", "two\nlines"])
def test_a_token_that_no_header_can_carry_is_one_line(run_command, tmp_path, text):
    (tmp_path / "token").write_text(text)
    assert "expected a token" in run_command("--token-file", tmp_path / "token")


@pytest.mark.parametrize("path", ["/", "/state", "/v2/health/ready", "/v2/health/live"])
def test_a_name_that_is_not_the_service_s_own_gets_nothing(path):
    with TestClient(app_of(hosts={"localhost", "cloud.example"})) as client:
        for known in ("localhost", "LOCALHOST:80", "cloud.example:8000", "127.0.0.1:1", "[::1]:8"):
            assert client.get(path, headers={"Host": known}).status_code == 200
        for unknown in ("rebound.example", "localhost.example:80", "127.0.0.1.example", ""):
            refused = client.get(path, headers={"Host": unknown})
            assert refused.status_code == 421
            assert "--allow-host" in refused.json()["error"]


def test_the_command_lets_itself_be_called_by_the_names_it_is_given(monkeypatch):
    given = {}

    def make_app(network, manifest, **options):
        given.update(options)
        raise ValueError("enough")

    monkeypatch.setattr(cloud, "load_cloud", lambda *_: (None, {}, "0123"))
    monkeypatch.setattr(cloud, "make_app", make_app)
    arguments = ["--port", "0", "--allow-host", "a.example", "b.example"]
    monkeypatch.setattr(sys, "argv", ["cloud", "run", *arguments])
    with pytest.raises(SystemExit):
        cloud.main()
    assert {"localhost", "127.0.0.1", "a.example", "b.example"} <= given["hosts"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_service_with_its_own_exit_code_and_one_line(
    monkeypatch, capsys, number, code
):
    def network(features):
        return features

    def load(*_):
        return network, {"features": {"shape": [2, 2, 3], "dtype": "float16"}}, "0123"

    async def started(self, sockets=None):
        await startup(self, sockets)
        os.kill(os.getpid(), number)

    startup = server._Server.startup
    monkeypatch.setattr(server._Server, "startup", started)
    monkeypatch.setattr(cloud, "load_cloud", load)
    monkeypatch.setattr(cloud, "make_app", lambda *_, **options: app_of())
    monkeypatch.setattr(logs, "log_to_stderr", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cloud", "run", "--port", "0"])
    with pytest.raises(SystemExit) as end:
        cloud.main()
    assert end.value.code == code
    assert capsys.readouterr().err.splitlines()[-1].endswith(": the service has ended")


def test_a_signal_has_the_service_serve_what_is_at_its_paths_now(monkeypatch):
    place, apps, reloads = {"run": "0123"}, [], []

    def make(model, manifest, **options):
        apps.append(make_app(model, manifest, **options))
        monkeypatch.setattr(apps[0].versions, "reload", reload)
        return apps[0]

    def reload(load):
        reloads.append(type(apps[0].versions).reload(apps[0].versions, load))

    async def started(self, sockets=None):
        await startup(self, sockets)
        assert apps[0].versions.identities == ["0123"]
        place["run"] = "4567"
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wrap_future(reloads[0])
        assert apps[0].versions.identities == ["4567"]
        os.kill(os.getpid(), signal.SIGINT)

    startup = server._Server.startup
    monkeypatch.setattr(server._Server, "startup", started)
    monkeypatch.setattr(cloud, "load_cloud", lambda run, _: (served_network, SERVED, place[run]))
    monkeypatch.setattr(cloud, "artifact_of", lambda run: run)
    monkeypatch.setattr(cloud, "model_id", place.get)
    monkeypatch.setattr(cloud, "make_app", make)
    monkeypatch.setattr(logs, "log_to_stderr", lambda: None)
    monkeypatch.setattr(sys, "argv", ["cloud", "run", "--port", "0"])
    with pytest.raises(SystemExit) as end:
        cloud.main()
    assert end.value.code == 130
    assert len(reloads) == 1


def test_one_tier_between_is_served_at_a_time(run_command):
    said = run_command("another-run", "--port", 0, "--upstream", "http://127.0.0.1:9")
    assert "expected one RUN with --upstream; received 2" in said
