import ctypes
import os
import signal
import socket
import time

import numpy as np
import pytest

from tune import cluster
from tune.cluster import Watch, environment, resources_of, start


@pytest.mark.parametrize(
    ("backbones", "cores", "threads"),
    [
        (5, [2], 1),  # two at a time are faster than one after the other
        (2, [2], 1),
        (1, [2], 2),
        (3, [8], 2),
        (1, [4, 2], 4),  # a worker does not reach beyond its host
        (2, [1, 1], 1),
    ],
)
def test_no_core_stays_idle_while_backbones_are_few(backbones, cores, threads):
    resources = resources_of(backbones, [{"CPU": float(n)} for n in cores])
    assert resources["num_cpus"] == threads
    assert resources["num_gpus"] == 0  # or Ray would hide those that are there
    assert resources["runtime_env"]["env_vars"] == environment(threads)
    assert environment(threads)["TF_NUM_INTRAOP_THREADS"] == str(threads)


def test_a_backbone_has_a_gpu_to_itself_where_there_are_any():
    assert resources_of(4, [{"CPU": 8.0, "GPU": 2.0}])["num_gpus"] == 1


@pytest.mark.parametrize(
    ("gpus", "hosts", "cores", "given"),
    [
        (2, [(8, 4)], 4, 2),  # 8 cores for 2 backbones
        (4, [(8, 4), (8, 4)], 8, 4),
        (4, [(8, 4), (64, 2)], 4, 4),  # nothing can run on the second host
        (None, [(4, 1), (64, 0)], 2, 1),
        (None, [(4, 0), (4, 0)], 4, 0),
    ],
)
def test_a_backbone_has_so_many_gpus_of_one_host(gpus, hosts, cores, given):
    hosts = [{"CPU": float(cpu), "GPU": float(gpu)} for cpu, gpu in hosts]
    resources = resources_of(2, hosts, gpus)
    assert (resources["num_cpus"], resources["num_gpus"]) == (cores, given)


@pytest.mark.parametrize(
    ("gpus", "hosts", "message"),
    [
        (3, [2, 1], "received at most 2 on one host: pass 2 or fewer"),
        (1, [0], "received at most 0 on one host: leave --gpus-per-network out"),
    ],
)
def test_more_gpus_than_any_host_has_are_refused(gpus, hosts, message):
    with pytest.raises(ValueError, match=f"--gpus-per-network {gpus} expects a host .* {message}"):
        resources_of(2, [{"CPU": 8.0, "GPU": float(n)} for n in hosts], gpus)


@pytest.mark.slow
def test_the_address_that_another_ray_has_left_is_not_followed(monkeypatch):
    import ray

    # As the file that a killed `ray start` leaves behind, to which `ray.init()` would connect.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    ray.shutdown()  # of a test before it, which `start` would keep
    start(None, num_cpus=1)
    try:
        assert ray.cluster_resources()["CPU"] == 1
    finally:
        ray.shutdown()


@pytest.fixture
def silent():
    """Return the address of a server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_cluster_that_is_not_there_is_waited_for_no_longer_than_asked():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"no Ray cluster answers at --address {address}"):
        start(address, None, seconds=1.0)
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_no_cluster(silent, monkeypatch):
    import ray

    # Ray waits in threads of C++ that outlive the test.
    monkeypatch.setattr(ray, "init", lambda **_: time.sleep(3))
    with pytest.raises(ValueError, match=r"within 0.5 s: no answer; see `ray status`"):
        start(silent, None, seconds=0.5)


def test_a_signal_while_ray_starts_goes_to_whom_it_went_before(monkeypatch):
    """Ray's C++ puts a handler of its own in place, which aborts the process."""
    import ray

    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        ignore = ctypes.c_void_p(1)  # past Python, as Ray does it
        monkeypatch.setattr(
            ray, "init", lambda **_: ctypes.CDLL(None).signal(signal.SIGTERM, ignore)
        )
        start(None, num_cpus=1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        cluster._ours.clear()


def test_a_ray_that_starts_nothing_any_more_is_noticed(monkeypatch):
    monkeypatch.setattr(cluster._local, "is_set", lambda: True)
    watch = Watch("head trial", seconds=0.05)
    watch.look(running=False)
    time.sleep(0.1)
    watch.look(running=True)  # as long as one runs, the others may wait
    watch.look(running=False)
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match=r"no head trial for 0\.05 s: the clock was set back"):
        watch.look(running=False)


def test_a_shared_cluster_may_have_more_urgent_work(monkeypatch):
    monkeypatch.setattr(cluster._local, "is_set", lambda: False)
    watch = Watch("head trial", seconds=0.0)
    time.sleep(0.01)
    watch.look(running=False)


def test_ray_hands_mapped_files_over_by_their_names(tmp_path):
    import ray

    np.save(tmp_path / "x.npy", np.arange(100_000))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    try:
        ray.util.register_serializer(
            np.memmap, serializer=cluster.named, deserializer=cluster.opened
        )
        content = ray.cloudpickle.dumps({"val": mapped[5:]})
    finally:
        ray.util.deregister_serializer(np.memmap)
    assert len(content) < 1000
    assert ray.cloudpickle.loads(content)["val"][:2].tolist() == [5, 6]
