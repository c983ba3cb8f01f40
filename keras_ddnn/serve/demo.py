"""All machines on this one: a device, the tiers behind it, and links between them as slow as asked.

    python -m keras_ddnn.serve.demo RUN --bandwidth-mbps 10 --round-trip-ms 40
    python -m keras_ddnn.serve.demo TIERS --tiers 3 --bandwidth-mbps 10 --round-trip-ms 40

Each tier is a process of its own, as it would be on a machine of its own.
"""

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from keras_ddnn.files.checks import require_positive
from keras_ddnn.files.manifest import EDGE_GRAPHS, hops_of, read_manifest
from keras_ddnn.files.notices import (
    CommandParser,
    add_forms,
    count,
    form_flags,
    positive,
    said_as,
    tell_error,
)
from keras_ddnn.files.signals import ENDINGS, ending_of, interruptible
from keras_ddnn.serve.slow_link import SlowLink

SEARCH = "search.json"  # of a run: tells the dataset
ENDING_SECONDS = 10.0  # that a device may take to say what it has done
READY_SECONDS = 120.0  # TensorFlow takes its time
MEGABIT = 1e6


def main(arguments=None) -> int:
    """Start all tiers and links, and print what the device reports; return the exit code.

    It is the device's, or 2 for bad input, 1 if a service cannot start, 130 after Ctrl-C, 143 after
    SIGTERM and 129 after SIGHUP.
    """
    options = _parser().parse_args(arguments)
    with said_as(options), interruptible() as received:
        try:
            return _run(options, received)
        except (ValueError, RuntimeError) as error:
            tell_error(error)
            return 2 if isinstance(error, ValueError) else 1
        except KeyboardInterrupt:
            code, word = ending_of(received)
            print(f"{word}: the demonstration has ended", file=sys.stderr)
            return code


def _run(options, received) -> int:
    if options.bandwidth_mbps is not None:
        require_positive(bandwidth_mbps=options.bandwidth_mbps)
    hops = _hops(options)
    dataset = options.dataset or _dataset_of(options.run)
    link = {
        "round_trip": options.round_trip_ms / 1000,
        "bandwidth": options.bandwidth_mbps and options.bandwidth_mbps * MEGABIT,
    }
    device = [sys.executable, "-m", "keras_ddnn.serve.edge", str(hops[0])]
    device += ["--graph", options.graph, "--deadline-ms", f"{options.deadline_ms}"]
    device += form_flags(options)
    device += ["--share-images", *(["--limit", f"{options.limit}"] if options.limit else [])]
    with ExitStack() as machines:
        device += ["--dataset", machines.enter_context(_test_data(dataset))]
        behind: list[str] = []  # how a tier is told of the one that it asks; the last asks none
        for place, hop in reversed([*enumerate(hops)]):
            chosen = None if place else options.port
            port = machines.enter_context(running_cloud(hop, *behind, port=chosen))
            print(f"the page of tier {place + 1}: http://127.0.0.1:{port}/", flush=True)
            far = machines.enter_context(linked(port, link))
            behind = ["--upstream", f"http://127.0.0.1:{far}"]
        return _wait_for_device([*device, "--cloud", behind[1]], received)


def _hops(options) -> list[Path]:
    """Return the artefact of each hop, the device's first, after verifying them."""
    hops = hops_of(options.run)
    for hop in hops:
        read_manifest(hop)
    if options.tiers not in (None, len(hops) + 1):
        raise ValueError(
            f"{options.run} holds {len(hops) + 1} tiers; received --tiers {options.tiers}: "
            "save_tiers writes the folder of a longer chain"
        )
    return hops


def _wait_for_device(command: list[str], received: list[signal.Signals]) -> int:
    """Return the exit code of a device, to which a signal is passed on; it then says what it did.

    Args:
        command: What starts it.
        received: Of `interruptible`.
    """
    # In a session of its own, so that Ctrl-C reaches it once, by way of this process.
    device = subprocess.Popen(command, start_new_session=True)
    try:
        return device.wait()
    except KeyboardInterrupt:
        device.send_signal(received[0])
        code = device.wait(ENDING_SECONDS)
        if code not in {ending.code for ending in ENDINGS.values()}:
            raise
        return code
    finally:
        device.kill()
        device.wait()


def _dataset_of(run: str) -> str:
    try:
        return json.loads((Path(run) / SEARCH).read_text())["dataset"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{run} does not tell its dataset: name one by --dataset") from None


@contextmanager
def _test_data(dataset: str):
    """Put the test data into a file that the device reads without TensorFlow."""
    if Path(dataset).exists():
        yield dataset
        return
    import numpy as np

    from keras_ddnn.data.datasets import load

    splits = load(dataset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{splits.name}.npz"
        arrays = {}
        for name in ("train", "val", "test"):
            split = getattr(splits, name)
            if name != "test":  # the device needs none of it, but a dataset has every class
                split = split.take(np.unique(split.labels, return_index=True)[1])
            arrays |= {f"x_{name}": split.images, f"y_{name}": split.user_labels}
        np.savez(path, **arrays)
        yield str(path)


@contextmanager
def running_cloud(run, *flags: str, port: int | None = None):
    """Run the cloud service in a process of its own; yield its port on loopback once it is ready.

    Args:
        run: A run of a search, or an artefact.
        *flags: Further options of its command line.
        port: A free one by default.

    Raises:
        RuntimeError: If it ends, or is not ready in time.
    """
    port = port or _free_port()
    command = [sys.executable, "-m", "keras_ddnn.serve.cloud", str(run), "--port", str(port)]
    process = subprocess.Popen(
        [*command, *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it: it ends when it is no longer needed
    )
    try:
        _wait_for(process, f"http://127.0.0.1:{port}/v2/health/ready")
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen, url: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the cloud service ended with {process.returncode}")
        with suppress(OSError), urlopen(url):  # it does not listen yet
            return
        time.sleep(0.2)
    raise RuntimeError(f"the cloud service was not ready within {READY_SECONDS} s")


@contextmanager
def linked(port: int, link: dict):
    """Run a slow link to a port of this machine; yield the port where it listens.

    Args:
        port: Of a service.
        link: Arguments of `SlowLink` beside its address.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    listening = SlowLink("127.0.0.1", port, **link).listen()
    server = asyncio.run_coroutine_threadsafe(listening, loop).result()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_hang_up(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _hang_up() -> None:
    """End what else runs in this loop: connections that others have left open."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.serve.demo",
        description="Run a device and the tiers behind it here, over links as slow as asked.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("run", help="the output folder of a search, an artefact, or a folder of save_tiers")
    add("--tiers", type=int, help="how many there must be; default: as many as RUN holds")
    add("--dataset", help="whose test data the device sees; default: that of the search")
    add("--bandwidth-mbps", type=float, help="of each link, either way; default: no limit")
    add("--round-trip-ms", type=float, default=0.0, help="of each link")
    add("--deadline-ms", type=positive, default=250.0, help="for an answer")
    add("--graph", choices=EDGE_GRAPHS, default="float", help="of the device")
    add("--limit", type=count, help="classify the first so many images only")
    add(
        "--port",
        type=int,
        help="of the service that the device asks, and its page; default: a free one",
    )
    add_forms(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
