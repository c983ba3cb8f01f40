"""Lose a worker of a Ray cluster in the middle of a search, and compare the table it ends with.

    python -m benchmarks.cluster

A head and a worker are started by `ray start`, as on two hosts, with a core each and one token. The
worker and all that it runs are killed once the first backbone is trained, and once the first trial
is recorded; the search must end with the table of one that nothing disturbs.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.durability import same_table, start_search, toy_data

# Where in a search the worker is lost -> the files that show it has come so far
MOMENTS = {"backbones": "backbones/*/backbone.json", "trials": "out/trials/*.json"}


def main() -> int:
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        data = toy_data(folder / "toy.npz")
        undisturbed = folder / "undisturbed" / "out"
        if start_search(data, undisturbed).wait():
            raise RuntimeError("the undisturbed search failed")
        for moment, pattern in MOMENTS.items():
            rows[moment] = _lose_worker(data, folder / moment, pattern, undisturbed)
    print(json.dumps({"lost_worker": rows}))
    return 0 if all(row["same_table"] for row in rows.values()) else 1


def _lose_worker(data: Path, folder: Path, pattern: str, undisturbed: Path) -> dict[str, Any]:
    with a_cluster(hosts=2) as (address, (_, worker)):
        search = start_search(data, folder / "out", "--address", address)
        try:
            while not list(folder.glob(pattern)):
                if search.poll() is not None:
                    raise RuntimeError(f"the search ended with {search.returncode} too early")
                time.sleep(0.1)
        finally:
            killed = _kill(worker)
        start = time.perf_counter()
        failed = search.wait()
        return {
            "killed_processes": killed,
            "exit_code": failed,
            "seconds_to_the_end": round(time.perf_counter() - start, 1),
            "same_table": not failed and same_table(undisturbed, folder / "out"),
        }


@contextmanager
def a_cluster(hosts: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Yield the address of a cluster of hosts with a core each, and their processes, head first."""
    address, nodes = f"127.0.0.1:{_free_port()}", []
    head = ["--head", "--port", address.split(":")[1], "--include-dashboard", "false"]
    try:
        for count in range(1, hosts + 1):
            nodes.append(_start_node(*(head if count == 1 else ["--address", address])))
            _wait_for_nodes(address, count)
        yield address, nodes
    finally:
        for node in reversed(nodes):
            if node.poll() is None:
                _kill(node)


def _start_node(*options: str) -> subprocess.Popen:
    ray = Path(sys.executable).with_name("ray")
    return subprocess.Popen(
        [ray, "start", *options, "--num-cpus", "1", "--block", "--disable-usage-stats"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait_for_nodes(address: str, count: int) -> None:
    """Wait until a cluster has so many hosts."""
    alive = (
        f"import ray; ray.init('{address}', logging_level='error');"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    for _ in range(30):
        done = subprocess.run([sys.executable, "-c", alive], capture_output=True, text=True)
        if done.stdout.strip().endswith(str(count)):
            return
        time.sleep(1.0)
    raise RuntimeError(f"no Ray cluster of {count} hosts at {address}: {done.stderr[-2000:]}")


def _kill(node: subprocess.Popen) -> int:
    """Kill a host and all that it runs, without notice; return how many processes that were."""
    root = psutil.Process(node.pid)
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    node.wait()
    return len(processes)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
