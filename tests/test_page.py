"""The page of the cloud service, in a headless browser: curve, counters, images and slider."""

import httpx
import numpy as np
import pytest
from chromium import BINARY, Page
from toy_service import INFER, SERVED, Server, app_of, served_network

from keras_ddnn.serve.cloud.versions import Served
from keras_ddnn.serve.edge.__main__ import _parser
from keras_ddnn.serve.protocol.wire import Tensor, encode

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="needs Chromium, of which there is no binary here"),
]
FEATURES = np.zeros((2, 2, 2, 3), np.float16)
IMAGES = np.full((2, 4, 4, 3), [10, 200, 30], np.uint8)


def text(page, name):
    return page.value(f"document.getElementById('{name}').textContent")


def send(port, token=None):
    """Offload two samples with their images, and tell of six that stayed local."""
    tensors = [Tensor("features", FEATURES), Tensor("images", IMAGES)]
    headers, body = encode(tensors, parameters={"answered_locally": 6})
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    response = httpx.post(f"http://127.0.0.1:{port}{INFER}", content=body, headers=headers)
    assert response.status_code == 200
    return len(body)


@pytest.fixture
def served(tmp_path):
    with Server(app_of()) as port, Page(f"http://127.0.0.1:{port}/", tmp_path / "profile") as page:
        page.wait_for("document.getElementById('answered').textContent == '0'")
        yield page, port


def test_it_draws_the_curve_and_the_planned_point(served):
    page, _ = served
    points = page.value("document.querySelector('.curve').getAttribute('points')").split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in points)
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y2 > y0 > y1  # accuracies of 0.6, 0.8 and 0.9, and y points down
    assert page.value("document.getElementById('planned-point').getAttribute('d')").startswith(
        f"M{x1:g} "
    )
    assert page.value("document.getElementById('live-point')") is None
    assert page.errors == []


def test_counters_and_the_live_point_follow_the_requests(served):
    page, port = served
    size = send(port)
    httpx.post(f"http://127.0.0.1:{port}{INFER}", content=b"nonsense")
    page.wait_for("document.getElementById('refused').textContent == '1 × 400'")
    names = ("answered", "offloaded", "local", "live-local", "bytes")
    assert [text(page, name) for name in names] == ["1", "2", "6", "75.0 %", str(size)]
    first, _, last = page.value("document.querySelector('.curve').getAttribute('points')").split()
    x0, x2 = (float(point.split(",")[0]) for point in (first, last))
    live = page.value("document.getElementById('live-point').cx.baseVal.value")
    assert live == pytest.approx(x0 + 0.75 * (x2 - x0))


def test_it_shows_the_images_with_their_classes(served):
    page, port = served
    send(port)
    page.wait_for("document.querySelectorAll('#images canvas').length == 2")
    pixel = page.value(
        "[...document.querySelector('canvas').getContext('2d').getImageData(1, 2, 1, 1).data]"
    )
    assert pixel == [10, 200, 30, 255]
    assert page.value("document.querySelector('figcaption').textContent") == "a"


def test_the_slider_plans_another_threshold(served):
    page, _ = served
    assert page.value("document.getElementById('threshold').value") == "0.5"
    page.value(
        "(slider => { slider.value = 0; slider.dispatchEvent(new Event('input')) })"
        "(document.getElementById('slider'))"
    )
    plan = SERVED["plan"][0]
    assert page.value("document.getElementById('threshold').value") == str(plan["score_threshold"])
    expected = ["0.0 %", "80.0 %", "12"]  # 2×2×3 codes, all sent
    assert [text(page, f"plan-{name}") for name in ("local", "measure", "bytes")] == expected


THUMB = 16  # pixels
# The middle of the planned point and that of the thumb, in pixels from the left.
MIDDLES = f"""(() => {{
  const point = document.getElementById("planned-point").getBoundingClientRect();
  const slider = document.getElementById("slider"), box = slider.getBoundingClientRect();
  return [point.left + point.width / 2,
          box.left + {THUMB} / 2 + slider.value * (box.width - {THUMB})];
}})()"""


@pytest.mark.parametrize("width", [1280, 400])
def test_the_thumb_stands_below_the_planned_point(served, width):
    page, _ = served
    page.resize(width, 1000)
    for asked, planned in ((0, 0.0), (0.3, 0.5), (1, 1.0)):  # 0.3 is nearest to 0.5
        page.value(
            f"(slider => {{ slider.value = {asked}; slider.dispatchEvent(new Event('input')) }})"
            "(document.getElementById('slider'))"
        )
        assert page.value("+document.getElementById('slider').value") == planned
        point, thumb = page.value(MIDDLES)
        assert thumb == pytest.approx(point, abs=1.0)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")


def test_arrow_keys_go_from_point_to_point(served):
    page, _ = served
    for key, threshold in (("ArrowRight", "0.9"), ("ArrowRight", "0.9"), ("ArrowLeft", "0.5")):
        page.value(
            f"document.getElementById('slider').dispatchEvent(new KeyboardEvent('keydown', "
            f"{{key: '{key}'}}))"
        )
        assert page.value("document.getElementById('threshold').value") == threshold


def test_a_reload_shows_the_threshold_of_the_new_plan(tmp_path):
    app = app_of()
    point = SERVED["plan"][0] | {"score_threshold": 0.125}
    other = SERVED | {"plan": [point], "score_threshold": 0.125}
    with Server(app) as port, Page(f"http://127.0.0.1:{port}/", tmp_path / "profile") as page:
        page.wait_for("document.getElementById('answered').textContent == '0'")
        page.value("choose(state.plan.length - 1)")
        app.versions.reload(lambda: [Served(served_network, other, "ff")]).result(30)
        page.wait_for("document.getElementById('model').textContent == 'ff'")
        assert page.value("document.getElementById('threshold').value") == "0.125"
        assert text(page, "trouble") == ""


def test_it_names_its_data_and_copies_a_command_that_a_device_takes(served):
    page, port = served
    assert text(page, "dataset") == "toy"
    name, command, *arguments = text(page, "command").split()
    assert (name, command) == ("keras-ddnn", "edge")
    options = _parser().parse_args(arguments)
    assert (options.cloud, options.threshold) == (f"http://127.0.0.1:{port}", 0.5)


def test_it_asks_for_the_token_and_then_works(tmp_path):
    with (
        Server(app_of(token="secret")) as port,
        Page(f"http://127.0.0.1:{port}/", tmp_path / "profile") as page,
    ):
        page.wait_for("!document.getElementById('login').hidden")
        page.value("document.getElementById('token').value = 'secret'")
        page.value("document.getElementById('login').requestSubmit()")
        page.wait_for("document.getElementById('answered').textContent == '0'")
        assert page.value("document.getElementById('login').hidden")
