"""Samples that nobody waits for: on disk before the answer, in order, kept by the cloud once."""

import itertools
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import flip_a_bit
from PIL import Image
from prometheus_client import CollectorRegistry
from toy_service import SERVED, Server, served_network

from keras_ddnn.data.datasets import load
from keras_ddnn.serve.cloud.kept import KeptSamples
from keras_ddnn.serve.cloud.service import make_app
from keras_ddnn.serve.cloud.versions import Served
from keras_ddnn.serve.edge.sending.background import Background
from keras_ddnn.serve.edge.sending.budget import SendingBudget
from keras_ddnn.serve.edge.sending.requests import RequestWriter
from keras_ddnn.serve.edge.sending.spool import BLOCK, Spool
from keras_ddnn.serve.protocol.batching import Unavailable
from keras_ddnn.serve.protocol.causes import Unanswered
from keras_ddnn.serve.protocol.link import CloudLink

MANIFEST = SERVED | {"input_shape": [16, 16, 3]}
NOWHERE = "http://127.0.0.1:9"  # nobody listens at this port
ROOM = 1 << 24


class LosesAnswers(CloudLink):
    """A link that loses every third answer, after the cloud has done its work."""

    def ask(self, headers, body, deadline, read):
        answer = super().ask(headers, body, deadline, read)
        self.count = getattr(self, "count", 0) + 1
        if self.count % 3 == 0:
            raise Unanswered("the answer is lost", "connection")
        return answer


def device(folder, url, model="0a", link=CloudLink, spool_bytes=ROOM, max_samples=32, budget=None):
    """Return what keeps and sends the samples of a device, without a thread."""
    ticks = itertools.count()
    registry = CollectorRegistry()
    writer = RequestWriter(
        MANIFEST,
        model,
        in_codes=False,
        share_images=True,
        max_bytes=1 << 20,
        max_samples=max_samples,
        keeps=True,
        budget=budget,
    )
    # Its breaker has always rested long enough.
    link = link(url, clock=lambda: 1000.0 * next(ticks))
    made = Background(writer, link, folder, spool_bytes, registry, budget)
    made.value = lambda name, **labels: registry.get_sample_value(f"ddnn_edge_{name}", labels)
    return made


def meet(device, *numbers):
    """Have a device meet hard samples, all in one request; the class of sample k is k % 3."""
    images = np.zeros((len(numbers), 16, 16, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(numbers, 256)
    features = np.zeros((len(numbers), 2, 2, 3), np.float16)
    features[range(len(numbers)), 0, 0, np.mod(numbers, 3)] = 1
    with pytest.raises(Unanswered) as told:
        device.about(features, images, 0.0)
    return told.value.cause


@contextmanager
def cloud(keep, *models, network=served_network):
    """Serve models that keep samples; yield the URL."""
    first, *others = (Served(network, MANIFEST, model) for model in models or ("0a",))
    options = {"max_wait": 0.0, "others": others, "keep": keep}
    app = make_app(first.model, first.manifest, identity=first.identity, **options)
    with Server(app) as port:
        yield f"http://127.0.0.1:{port}"


def kill(device):
    """Abandon a device; of what it held, the kernel lets go of its lock alone."""
    device.spool.close()


def kept_numbers(folder: Path) -> list[int]:
    """Return the samples that a cloud has kept, in the order of their requests."""
    numbers = []
    for file in sorted((folder / "images").glob("*/*.png"), key=lambda file: file.name):
        high, low, _ = np.asarray(Image.open(file))[0, 0].tolist()
        numbers.append(256 * high + low)
        assert file.parent.name == "abc"[numbers[-1] % 3]
    return numbers


def test_500_hard_samples_arrive_once_over_a_bad_link_and_through_kills(tmp_path):
    spool, kept = tmp_path / "spool", tmp_path / "kept"
    for start in (0, 100):  # the link is down, and the process is killed twice
        killed = device(spool, NOWHERE)
        for k in range(start, start + 100, 5):
            assert meet(killed, *range(k, k + 5)) == "deferred"
        assert not killed.deliver()
        assert killed.waiting == start + 100
        kill(killed)
    with cloud(KeptSamples(kept)) as url:  # killed before the spool is empty
        killed = device(spool, url, link=LosesAnswers)
        meet(killed, *range(200, 230))
        assert not killed.deliver()
        assert 0 < killed.waiting < 230
        kill(killed)
    with cloud(KeptSamples(kept)) as url:  # both machines have been started again
        last = device(spool, url, link=LosesAnswers)
        for start in range(230, 500, 30):
            meet(last, *range(start, start + 30))
        while not last.deliver():
            assert last.waiting
        assert last.waiting == 0
        last.close({})
    assert sorted(kept_numbers(kept)) == [*range(500)]
    assert not [file for file in spool.iterdir() if file.name != ".lock"]


class Clock:
    """Seconds that go on when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_what_is_sent_in_the_background_counts_against_the_budget(tmp_path):
    clock, kept = Clock(), tmp_path / "kept"
    budget = SendingBudget(samples_per_minute=6, clock=clock)
    with cloud(KeptSamples(kept)) as url:
        late = device(tmp_path / "spool", url, budget=budget)
        assert late.requests.samples == 6  # a request of more could never be sent
        assert [meet(late, k, k + 1, k + 2, k + 3) for k in (0, 4)] == ["deferred"] * 2
        assert not late.deliver()  # 4 of 6 are used, and 4 more do not fit
        assert (late.waiting, kept_numbers(kept)) == (4, [0, 1, 2, 3])
        clock.now = 19.0  # 3.9 are there
        assert not late.deliver()
        clock.now = 20.0
        assert late.deliver()
        late.close({})
    assert kept_numbers(kept) == [*range(8)]


def test_an_attempt_that_sends_nothing_costs_no_budget_and_one_that_is_lost_does(tmp_path):
    class Resting(CloudLink):
        def ask(self, headers, body, deadline, read):
            raise Unanswered("the breaker is open", "circuit-open")

    class Losing(CloudLink):
        def ask(self, headers, body, deadline, read):
            raise Unanswered("the answer is lost", "time-out")

    for link, left in ((Resting, 5), (Losing, 2)):
        budget = SendingBudget(samples_per_minute=5, clock=Clock())
        late = device(tmp_path / link.__name__, NOWHERE, link=link, budget=budget)
        meet(late, 0, 1, 2)
        assert not late.deliver()
        assert late.waiting == 3
        assert budget.take(9, 1, 1) == left


def test_a_request_of_a_time_with_a_larger_budget_is_sent_and_paid_back(tmp_path):
    clock, kept = Clock(), tmp_path / "kept"
    before = device(tmp_path / "spool", NOWHERE)
    meet(before, *range(6))
    meet(before, 6)
    before.close({})
    with cloud(KeptSamples(kept)) as url:
        budget = SendingBudget(samples_per_minute=2, clock=clock)
        after = device(tmp_path / "spool", url, budget=budget)
        assert not after.deliver()  # 6 where 2 are free: 4 are owed, which takes two minutes
        assert after.waiting == 1
        clock.now = 149.0
        assert not after.deliver()
        clock.now = 150.0
        assert after.deliver()
        after.close({})
    assert kept_numbers(kept) == [*range(7)]


def test_samples_arrive_in_the_order_in_which_they_were_met(tmp_path):
    seen = []

    class Recording(KeptSamples):
        def add(self, keep, model, images, names):
            seen.extend((256 * images[:, 0, 0, 0].astype(int) + images[:, 0, 0, 1]).tolist())
            return super().add(keep, model, images, names)

    first = device(tmp_path / "spool", NOWHERE)
    for k in range(20):
        meet(first, k)
    kill(first)
    with cloud(Recording(tmp_path / "kept")) as url:
        second = device(tmp_path / "spool", url)
        meet(second, 20, 21)
        assert second.deliver()
        assert second.value("delivered_samples_total") == 22
    assert seen == [*range(22)]


def test_what_exceeds_the_bound_drops_the_oldest_and_is_counted(tmp_path):
    full = device(tmp_path / "spool", NOWHERE, spool_bytes=10 * BLOCK, max_samples=1)
    for k in range(25):
        assert meet(full, k) == "deferred"
        files = [file for file in (tmp_path / "spool").iterdir() if file.name != ".lock"]
        assert sum(file.stat().st_blocks * 512 for file in files) <= 10 * BLOCK
    assert full.value("spool_samples") == 10
    assert full.value("spool_bytes") == 10 * BLOCK
    assert full.value("dropped_samples_total", reason="full") == 15
    kill(full)
    with cloud(KeptSamples(tmp_path / "kept")) as url:
        assert device(tmp_path / "spool", url).deliver()
    assert kept_numbers(tmp_path / "kept") == [*range(15, 25)]


def test_a_smaller_bound_than_before_holds_from_the_start(tmp_path):
    large = device(tmp_path, NOWHERE)
    for k in range(10):
        meet(large, k)
    kill(large)
    small = device(tmp_path, NOWHERE, spool_bytes=6 * BLOCK, max_samples=1)
    assert small.waiting == 6


def test_the_request_on_its_way_is_not_dropped(tmp_path):
    lost = []
    spool = Spool(tmp_path, 2 * BLOCK, lambda *told: lost.append(told))
    for name in ("a", "b"):
        spool.add("0a", 1, lambda _, name=name: name.encode())
    held, content = spool.hold()
    spool.add("0a", 1, lambda _: b"c")
    assert content == b"a"
    assert lost == [("full", 1)]
    spool.remove(held)
    assert spool.hold()[1] == b"c"


def test_a_damaged_sample_is_dropped_and_the_others_arrive(tmp_path):
    worn = device(tmp_path / "spool", NOWHERE)
    for k in range(3):
        meet(worn, k)
    kill(worn)
    flip_a_bit(sorted((tmp_path / "spool").glob("0*"))[1])
    with cloud(KeptSamples(tmp_path / "kept")) as url:
        again = device(tmp_path / "spool", url)
        assert again.deliver()
    assert again.value("dropped_samples_total", reason="damaged") == 1
    assert kept_numbers(tmp_path / "kept") == [0, 2]


def test_a_disk_that_takes_nothing_is_told_and_counted(tmp_path, monkeypatch):
    full = device(tmp_path, NOWHERE)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keras_ddnn.serve.edge.sending.spool.replacing_file", fail)
    assert meet(full, 1) == "not-kept"
    assert full.value("dropped_samples_total", reason="disk") == 1
    assert full.waiting == 0


def test_a_spool_is_of_one_process_and_holds_two_requests(tmp_path):
    used = device(tmp_path, NOWHERE)
    with pytest.raises(ValueError, match="no other process uses"):
        device(tmp_path, NOWHERE)
    used.close({})
    with pytest.raises(ValueError, match=r"spool_bytes: expected at least \d+, two requests"):
        device(tmp_path, NOWHERE, spool_bytes=BLOCK)


def test_devices_that_begin_with_copies_of_one_spool_lose_nothing(tmp_path):
    with cloud(KeptSamples(tmp_path / "kept")) as url:
        for k, name in enumerate(("one", "two")):
            copy = device(tmp_path / name, url)
            meet(copy, k)
            assert copy.deliver()
    assert sorted(kept_numbers(tmp_path / "kept")) == [0, 1]


def test_samples_of_an_older_artefact_wait_for_its_version_and_stop_no_others(tmp_path):
    older = device(tmp_path / "spool", NOWHERE, model="0a")
    meet(older, 0)
    kill(older)
    with cloud(KeptSamples(tmp_path / "kept"), "0b") as url:
        newer = device(tmp_path / "spool", url, model="0b")
        meet(newer, 1)
        assert not newer.deliver()
        assert newer.waiting == 1
        kill(newer)
    assert kept_numbers(tmp_path / "kept") == [1]
    with cloud(KeptSamples(tmp_path / "kept"), "0b", "0a") as url:
        assert device(tmp_path / "spool", url, model="0b").deliver()
    assert sorted(kept_numbers(tmp_path / "kept")) == [0, 1]


def test_a_sample_without_an_answer_stops_no_others(tmp_path):
    def network(features):
        logits = served_network(features)
        return np.where(logits[:, :1] == 1, np.nan, logits)  # of class a

    with cloud(KeptSamples(tmp_path / "kept"), network=network) as url:
        made = device(tmp_path / "spool", url)
        for k in (0, 1):
            meet(made, k)
        assert made.deliver()
    assert made.value("dropped_samples_total", reason="refused-422") == 1
    assert kept_numbers(tmp_path / "kept") == [1]


def test_what_is_kept_is_read_by_load_and_labels_are_the_folders(tmp_path):
    with cloud(KeptSamples(tmp_path)) as url:
        made = device(tmp_path / "spool", url)
        meet(made, *range(30))
        assert made.deliver()
    wrong = next((tmp_path / "images" / "a").iterdir())
    wrong.rename(tmp_path / "images" / "c" / wrong.name)  # a person labels it
    splits = load(tmp_path / "images")
    assert splits.class_names == ("a", "b", "c")
    counts = sum(np.bincount(split.labels) for split in (splits.train, splits.val, splits.test))
    assert counts.tolist() == [9, 10, 11]


def test_a_repeated_request_is_kept_once_though_its_image_has_been_taken_away(tmp_path):
    kept, image = KeptSamples(tmp_path), np.zeros((1, 16, 16, 3), np.uint8)
    request = f"{'0' * 16}-7", "0a", image, ["a"]
    assert kept.add(*request) == 1
    next(tmp_path.glob("images/a/*.png")).unlink()
    assert KeptSamples(tmp_path).add(*request) == 0
    assert not [*tmp_path.glob("images/a/*.png")]
    assert kept.add(f"{'0' * 16}-8", *request[1:]) == 1


def test_a_kill_between_the_images_and_their_number_keeps_no_image_twice(tmp_path):
    images = np.zeros((2, 16, 16, 3), np.uint8)
    images[1] = 1
    request = f"{'0' * 16}-7", "0a", images, ["a", "b"]
    KeptSamples(tmp_path).add(*request)
    (tmp_path / "arrived" / f"{'0' * 16}-0a").unlink()
    next(tmp_path.glob("images/b/*.png")).unlink()
    assert KeptSamples(tmp_path).add(*request) == 1
    assert len([*tmp_path.glob("images/*/*.png")]) == 2


def test_an_image_that_comes_again_in_another_session_is_kept_once(tmp_path):
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] + np.zeros((16, 16, 3), np.uint8)
    kept = KeptSamples(tmp_path)
    assert kept.add(f"{'0' * 16}-1", "0a", images[:2], ["a", "b"]) == 2
    wrong = next(tmp_path.glob("images/b/*.png"))
    (tmp_path / "images" / "c").mkdir()
    wrong.rename(tmp_path / "images" / "c" / wrong.name)  # a person labels it
    assert kept.add(f"{'1' * 16}-1", "0a", images, ["a", "b", "b"]) == 1
    assert KeptSamples(tmp_path).add(f"{'2' * 16}-1", "0a", images, ["a", "b", "b"]) == 0
    assert len([*tmp_path.glob("images/*/*.png")]) == 3


def test_a_cloud_that_cannot_write_says_so_and_no_path(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "/secret/place")

    kept = KeptSamples(tmp_path)
    monkeypatch.setattr("keras_ddnn.serve.cloud.kept.replacing_file", fail)
    with pytest.raises(Unavailable) as told:
        kept.add(f"{'0' * 16}-7", "0a", np.zeros((1, 16, 16, 3), np.uint8), ["a"])
    assert str(told.value) == "samples cannot be kept: No space left on device"


def test_a_full_cloud_leaves_samples_with_the_device_until_there_is_room(tmp_path):
    with cloud(KeptSamples(tmp_path / "kept", max_bytes=1)) as url:
        made = device(tmp_path / "spool", url)
        meet(made, 0)
        meet(made, 1)
        assert not made.deliver()
        assert made.waiting == 1
        next((tmp_path / "kept").glob("images/*/*.png")).unlink()  # a person takes it away
        assert made.deliver()
    assert kept_numbers(tmp_path / "kept") == [1]


def test_a_cloud_that_keeps_nothing_refuses_and_the_device_loses_nothing(tmp_path, caplog):
    with cloud(None) as url:
        made = device(tmp_path, url)
        meet(made, 0)
        assert not made.deliver()
    assert made.waiting == 1
    assert "expected no samples to keep: start the service with --keep FOLDER" in caplog.text


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"input_shape": [2, 16, 16, 3]}, "an image of 1 or 3 channels"),
        ({"class_names": ["a", "b/c", "d"]}, "names of classes that can be those of folders"),
    ],
)
def test_a_service_refuses_to_keep_what_cannot_be_files_by_class(tmp_path, fields, why):
    with pytest.raises(ValueError, match=why):
        make_app(served_network, MANIFEST | fields, identity="0a", keep=KeptSamples(tmp_path))


@pytest.mark.parametrize("keep", ["../../etc-1", f"{'0' * 16}-1/../2", f"{'0' * 16}-", 7])
def test_an_id_that_could_name_another_file_is_refused(tmp_path, keep):
    writer = device(tmp_path / "spool", NOWHERE).requests
    blank = np.zeros((1, 2, 2, 3), np.float16), np.zeros((1, 16, 16, 3), np.uint8)
    headers, body = writer.write(*blank, 0, keep=keep)
    with cloud(KeptSamples(tmp_path)) as url, pytest.raises(Unanswered, match="16 hex digits"):
        CloudLink(url).ask(headers, body, time.monotonic() + 30.0, lambda *_: None)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_background import NOWHERE, device, meet
made = device({folder!r}, NOWHERE)
for k in range(500):
    meet(made, k)
    print(k, flush=True)
"""


@pytest.mark.slow
def test_no_sample_is_lost_or_doubled_when_the_process_is_killed_at_any_moment(tmp_path):
    told = -1
    code = WRITER.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "spool"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            told = int(line)
            if told == 123:
                run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    with cloud(KeptSamples(tmp_path / "kept")) as url:
        assert device(tmp_path / "spool", url).deliver()
    found = kept_numbers(tmp_path / "kept")
    # What was being written when the kill came may be there, too.
    assert found in ([*range(told + 1)], [*range(told + 2)])
