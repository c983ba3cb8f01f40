"""Ray: this machine or a running cluster, and what a worker may use of it."""

import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, assert_never

import numpy as np

from keras_ddnn.data.rows.view import MappedFile
from tune.space import Scheduler

# Ray's own OMP_NUM_THREADS does not bind TensorFlow. With one thread a worker, sums are made in one
# order, and a search repeats to the last bit.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

CONNECT_SECONDS = 15.0  # to a running cluster
START_SECONDS = 120.0  # of a Ray of our own, on a machine that is busy
STOP_SECONDS = 20.0
# After so long a Ray of our own, in which nothing runs, starts nothing any more. When the clock is
# set back, its GCS takes news of free cores for old news, and waits until the clock has caught up.
STALL_SECONDS = 120.0

_ours = threading.Event()  # set while a Ray runs that `start` has started or attached to
_local = threading.Event()  # set if it runs for us alone


def start(address: str | None, num_cpus: int | None, seconds: float | None = None) -> None:
    """Attach to a cluster, or start Ray on this machine, unless this process has done so already.

    Args:
        address: Address of a running cluster; None for a Ray of its own on this machine, whatever
            other Ray runs there or has left its address behind.
        num_cpus: Cores of this machine; all by default.
        seconds: How long to wait at most; `CONNECT_SECONDS` or `START_SECONDS` by default.

    Raises:
        ValueError: If no cluster answers at the address in time.
        RuntimeError: If Ray does not start on this machine.
    """
    import ray

    if ray.is_initialized():
        _hand_over_files()
        return
    _local.clear()
    logging.getLogger("ray").setLevel(logging.ERROR)
    if address:
        options = {}
    else:
        options = {"num_cpus": num_cpus, "include_dashboard": False}
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            # Or Ray would write one into the home folder, which may not be writable.
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

    def connect():
        if address:
            _reach(address, seconds or CONNECT_SECONDS)
        ray.init(
            address=address or "local",
            runtime_env={"env_vars": environment(threads=1)},
            logging_level="error",
            log_to_driver=False,
            **options,
        )

    seconds = seconds or (CONNECT_SECONDS if address else START_SECONDS)
    ended, errors = _in_thread(connect)
    try:
        error = errors[0] if _wait(ended, seconds) and errors else None
    except KeyboardInterrupt:
        ended.wait(min(seconds, STOP_SECONDS))  # what is half started cannot be stopped
        raise
    finally:
        if ended.is_set() and not errors:
            _ours.set()
            if not address:
                _local.set()
    if address and (error or not ended.is_set()):
        raise ValueError(
            f"no Ray cluster answers at --address {address} within {seconds:g} s: "
            f"{error or 'no answer'}; see `ray status` on its head, or leave --address out"
        )
    if error or not ended.is_set():
        raise RuntimeError(
            f"Ray does not start on this machine: {error or f'no answer in {seconds:g} s'}; "
            "it needs free memory and room in its folder of temporary files"
        ) from error
    _hand_over_files()


def _hand_over_files() -> None:
    """Let Ray give mapped files to workers by their names, not copies of what they hold."""
    import ray

    ray.util.register_serializer(np.memmap, serializer=named, deserializer=opened)


def named(array: np.memmap) -> MappedFile | np.ndarray:
    """Return where a mapped array lies; a copy of one that lies nowhere."""
    return MappedFile.of(array) or np.array(array)


def opened(array: MappedFile | np.ndarray) -> np.ndarray:
    """Return the array that `named` was given, on another machine perhaps.

    Raises:
        ValueError: That machine does not see the file.
    """
    return array.open() if isinstance(array, MappedFile) else array


def stop(seconds: float = STOP_SECONDS) -> None:
    """End the Ray that `start` has started, with its workers, or leave the cluster."""
    if _ours.is_set():
        ended, _ = _in_thread(sys.modules["ray"].shutdown)
        ended.wait(seconds)
        _ours.clear()


def _reach(address: str, seconds: float) -> None:
    """Raise OSError if nobody listens at an address: Ray itself would wait for ever."""
    host, _, port = address.rpartition("//")[-1].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _in_thread(call: Callable[[], object]) -> tuple[threading.Event, list[Exception]]:
    """Call something in a thread; return an event of its end, and a list for its error.

    The thread stays: the kernel ends Ray's processes with the thread that has started them.
    """
    ended, errors = threading.Event(), []

    def run():
        try:
            call()
        except BaseException as error:
            errors.append(error)
        ended.set()
        threading.Event().wait()

    threading.Thread(target=run, daemon=True).start()
    return ended, errors


def _wait(ended: threading.Event, seconds: float) -> bool:
    """Wait for an event for so long; return whether it came.

    Ray replaces the handler of SIGTERM on its way by one that aborts this process and leaves Ray
    behind. Ours takes its place again.
    """
    handler = signal.getsignal(signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    deadline = time.monotonic() + seconds
    while True:
        came = ended.wait(0.05)
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)
        if came or time.monotonic() >= deadline:
            return came


def in_worker(function: Callable, *arguments):
    """Call a function in a worker and return its result.

    Raises:
        RuntimeError: If no worker answers.
    """
    import ray

    return bounded_get(ray.remote(num_cpus=1, max_retries=0)(function).remote(*arguments))


def bounded_get(reference):
    """Return what a Ray reference stands for; RuntimeError if it does not come."""
    import ray

    try:
        return ray.get(reference, timeout=STALL_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise RuntimeError(
            f"Ray has not started a worker in {STALL_SECONDS:g} s: memory is short, or the cluster "
            "has no core to spare"
        ) from error
    except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as error:
        raise RuntimeError("a worker of Ray ends as it starts: memory is short") from error


class Watch:
    """Notices that a Ray of our own starts nothing any more; a cluster may take its time.

    Args:
        what: Waits to be started.
        seconds: How long nothing may run.
    """

    def __init__(self, what: str, seconds: float | None = None):
        self.what = what
        self.seconds = STALL_SECONDS if seconds is None else seconds
        self.since = time.monotonic()

    def look(self, running: bool) -> None:
        """Say whether anything runs now.

        Raises:
            RuntimeError: If nothing has run for too long.
        """
        if running or not _local.is_set():  # a cluster may have more urgent work
            self.since = time.monotonic()
        elif time.monotonic() - self.since > self.seconds:
            raise RuntimeError(
                f"Ray has started no {self.what} for {self.seconds:g} s: the clock was set back or "
                "memory is short. What is finished is kept: run it again, a search with --resume"
            )


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker that computes with so many threads."""
    return dict.fromkeys(THREADS, str(threads)) | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def here():
    """Return the scheduling strategy that keeps an actor on this host.

    A worker of the cluster may be lost; what the driver cannot do without must not be on it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def resources_of(
    backbones: int, hosts: list[dict[str, float]], gpus: int | None = None
) -> dict[str, Any]:
    """Return the options of the Ray task that trains one of several backbones.

    They follow from the search and the cluster, not from what is trained already: a backbone that
    is trained after an interruption comes out as it would have.

    Args:
        backbones: How many the search has. Two at a time on a core each are faster than one after
            the other on both; only where cores would stay idle does one get more of them.
        hosts: "CPU" and "GPU" of each host.
        gpus: That each backbone is trained on; by default one where there are any.

    Raises:
        ValueError: If no host has so many GPUs.
    """
    most = max(int(host.get("GPU", 0)) for host in hosts)
    if gpus is None:
        gpus = min(1, most)
    if gpus > most:
        remedy = f"pass {most} or fewer" if most else "leave --gpus-per-network out"
        raise ValueError(
            f"--gpus-per-network {gpus} expects a host with so many GPUs; received at most {most} "
            f"on one host: {remedy}"
        )
    # Cores of the other hosts are of no use, and Ray would wait for ever for a host with both.
    hosts = [host for host in hosts if host.get("GPU", 0) >= gpus]
    cores = sum(int(host.get("CPU", 0)) for host in hosts)
    largest = max(int(host.get("CPU", 0)) for host in hosts)
    threads = max(1, min(largest, cores // backbones))
    return {
        "num_cpus": threads,
        "num_gpus": gpus,
        "runtime_env": {"env_vars": environment(threads)},
    }


def scheduler(name: Scheduler):
    """Return Tune's scheduler of trials; None for its default, which starts them in order."""
    match name:
        case "fifo":
            return None
        case "asha":
            from ray.tune.schedulers import ASHAScheduler

            return ASHAScheduler(time_attr="training_iteration", grace_period=2)
        case _:
            assert_never(name)
