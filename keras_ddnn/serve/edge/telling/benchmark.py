"""How fast is this device? It runs the graph of an artefact, and times it; no TensorFlow."""

import time
from pathlib import Path
from statistics import median

import numpy as np

from keras_ddnn.evaluation.cut_latency import RATE
from keras_ddnn.files.atomic import write_json
from keras_ddnn.files.checks import require_choice, require_positive
from keras_ddnn.files.manifest import EDGE_GRAPHS, artifact_of, inputs_name, read_manifest
from keras_ddnn.files.notices import tell_result
from keras_ddnn.serve.edge.device_graph import bytes_of_files, open_graph
from keras_ddnn.serve.edge.telling.metrics import peak_memory

SECONDS = 5.0
LEAST_RUNS = 10  # though they take longer


def measure(run: str | Path, graph: str = "float", seconds: float = SECONDS) -> dict:
    """Time the device's graph on one sample at a time, a random image or zeros, on one thread.

    Args:
        run: An artefact, or the run that it belongs to.
        graph: A key of `EDGE_GRAPHS`.
        seconds: For how long.

    Returns:
        `seconds_per_sample`, the median; `runs`, of how many; `multiply_adds`, those of the local
        network and the rule, and `multiply_adds_per_second`, both None where the artefact does not
        tell; `peak_memory_bytes` of this process; `files_bytes`, of what a device needs.

    Raises:
        ValueError: If the artefact is damaged or holds no such graph.
    """
    require_choice("graph", graph, EDGE_GRAPHS)
    require_positive(seconds=seconds)
    folder = artifact_of(run)
    manifest = read_manifest(folder)
    if EDGE_GRAPHS[graph] not in manifest["sha256"]:
        raise ValueError(f"{folder} holds no {EDGE_GRAPHS[graph]}")
    infer = open_graph(folder / EDGE_GRAPHS[graph], manifest).get_signature_runner()
    shape, dtype = (1, *manifest["input_shape"]), manifest["input_dtype"]
    inputs = np.zeros(shape, dtype)
    if dtype == "uint8":
        inputs = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sample = {inputs_name(dtype): inputs}
    infer(**sample)  # the first run allocates
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < LEAST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        infer(**sample)
        taken.append(time.perf_counter() - start)
    each, count = median(taken), manifest["metrics"].get("device_multiply_adds")
    return {
        "seconds_per_sample": each,
        "runs": len(taken),
        "multiply_adds": count,
        RATE: count / each if count else None,
        "peak_memory_bytes": peak_memory(),
        "files_bytes": bytes_of_files(folder / EDGE_GRAPHS[graph]),
    }


def benchmark(run: str | Path, graph: str, path: str | Path, seconds: float = SECONDS) -> None:
    """Measure this device, write what `keras_ddnn.cuts --rate` reads, and say it in one line.

    Raises:
        OSError: If the file cannot be written.
        ValueError: See `measure`.
    """
    found = measure(run, graph, seconds)
    write_json(path, found)
    rate = f"{found[RATE] / 1e9:.3g} GMAC/s" if found[RATE] else "unknown multiply-adds"
    sizes = f"{found['peak_memory_bytes']:,} bytes of memory, {found['files_bytes']:,} of files"
    said = f"{1e3 * found['seconds_per_sample']:.3f} ms a sample, {rate}, {sizes}: {path}"
    tell_result(said, found | {"file": path})
