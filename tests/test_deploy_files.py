"""The images and the manifest in deploy/ name files, extras, options and paths that there are."""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from toy_service import app_of

from keras_ddnn.serve.cloud.__main__ import _parser as cloud_parser

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
IMAGES = sorted(path.name for path in DEPLOY.glob("*.Dockerfile"))
NOBODY = "10001"
BUILT = re.compile(r"dist/keras_ddnn-\*\.whl")  # what `pip wheel` makes of the repository


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its arguments on one line."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if line[:1] != "#"]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def extras() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return set(config["options.extras_require"])


def documents() -> dict[str, dict]:
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "cloud.yaml").read_text())}


def container() -> dict:
    (only,) = documents()["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def test_there_is_an_image_of_each_machine():
    assert IMAGES == ["cloud.Dockerfile", "device.Dockerfile"]


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_copies_and_installs_what_there_is_and_runs_as_nobody(name):
    steps = instructions(name)
    for source in [each for key, rest in steps if key == "COPY" for each in rest.split()[:-1]]:
        assert BUILT.fullmatch(source) or list(ROOT.glob(source))
    (asked,) = re.findall(r'\)\[([\w,-]+)\]"', dict(steps)["RUN"])
    assert set(asked.split(",")) <= extras()
    users = [rest for key, rest in steps if key == "USER"]
    assert users == [NOBODY]
    order = [key for key, _ in steps]
    assert order.index("USER") > order.index("RUN")  # what is installed belongs to root
    assert f"--uid {NOBODY}" in dict(steps)["RUN"]


@pytest.mark.parametrize("name", IMAGES)
def test_the_command_of_an_image_runs(name):
    program, *rest = yaml.safe_load(dict(instructions(name))["ENTRYPOINT"])
    assert program == "python"
    run = subprocess.run(
        [sys.executable, *rest, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "usage: " in run.stdout


def test_the_services_take_the_options_that_they_are_started_with():
    for arguments in (
        yaml.safe_load(dict(instructions("cloud.Dockerfile"))["CMD"]),
        container()["args"],
    ):
        options = cloud_parser().parse_args(arguments)
        assert [str(run) for run in options.run] == ["/artifact"]
        assert options.token_file.name == "token"  # nobody asks without one
        assert options.port == 8000


def test_probes_and_health_checks_ask_for_paths_that_need_no_token():
    check = dict(instructions("cloud.Dockerfile"))["HEALTHCHECK"]
    asked = {re.search(r"127\.0\.0\.1:8000(/[\w/]+)", check)[1]}
    asked |= {
        container()[f"{name}Probe"]["httpGet"]["path"]
        for name in ("startup", "readiness", "liveness")
    }
    assert len(asked) == 2
    with TestClient(app_of(token="secret", hosts={"localhost"})) as client:
        for path in asked:  # by the address of the machine, as the kubelet does
            assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200
        assert client.get("/state", headers={"Host": "10.0.0.7"}).status_code == 401


@pytest.mark.parametrize("name", IMAGES)
def test_a_health_check_is_a_program_that_can_run(name):
    _, command = dict(instructions(name))["HEALTHCHECK"].split(" CMD ")
    python, flag, program = yaml.safe_load(command)
    assert [python, flag] == ["python", "-c"]
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode != 0
    assert "URLError" in run.stderr  # nobody listens here, and so it is not healthy


def test_the_manifest_is_consistent_and_grants_no_more_than_is_needed():
    deployment, service = documents()["Deployment"]["spec"], documents()["Service"]["spec"]
    pod, only = deployment["template"]["spec"], container()
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == service["selector"] == labels
    assert {mount["name"] for mount in only["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }
    assert [port["containerPort"] for port in only["ports"]] == [8000]
    assert service["ports"][0]["targetPort"] in {port["name"] for port in only["ports"]}
    assert pod["securityContext"]["runAsNonRoot"]
    assert str(pod["securityContext"]["runAsUser"]) == NOBODY
    assert only["securityContext"]["allowPrivilegeEscalation"] is False
    places = {mount["mountPath"] for mount in only["volumeMounts"]}
    token = cloud_parser().parse_args(only["args"]).token_file
    assert {"/artifact", str(token.parent)} <= places
    assert pod["terminationGracePeriodSeconds"] > 30  # of `SHUTDOWN_SECONDS`
    assert shlex.join(only["args"])  # all are text, as Kubernetes asks
