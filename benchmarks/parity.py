"""Do two real machines answer as the policy in memory does?

    python -m benchmarks.parity RUN --dataset cifar10 --samples 2000

A cloud service and a device, each a process of its own with its part of the artefact of RUN,
classify the first test images; so does the policy in memory. Float: the share of images with the
same decision, and the same class. Int8: also by how much accuracy and local share differ.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.data.datasets import load
from keras_ddnn.files.manifest import EDGE_GRAPHS, artifact_of
from keras_ddnn.serve.demo import running_cloud

DEVICE = """
import sys
import numpy as np
from keras_ddnn.serve.edge.runtime import EdgeRuntime
folder, url, graph, images, answers = sys.argv[1:]
with EdgeRuntime(folder, url, graph=graph, deadline_s=10.0) as device:
    parts = [device.predict(image[None]) for image in np.load(images)]
    numbers = device.metrics.numbers()
numbers = {name: numbers[name] for name in ("sent_bytes", "p50", "p99")}
arrays = {k: np.concatenate([getattr(p, k) for p in parts])
          for k in ("classes", "offloaded", "fallback")}
np.savez(answers, **numbers, **arrays)
assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    folder = artifact_of(options.run)
    test = load(options.dataset).test
    images, labels = test.images[: options.samples], test.labels[: options.samples]

    from keras_ddnn.deploy.artifact import load_policy

    classes, offloaded = load_policy(folder).predict(images)
    reference = {"accuracy": np.mean(classes == labels), "local_share": np.mean(~offloaded)}
    rows = [{"who": "policy in memory"} | reference]
    with tempfile.TemporaryDirectory() as scratch, running_cloud(folder) as port:
        np.save(Path(scratch) / "images.npy", images)
        for graph in EDGE_GRAPHS:
            answers = device(folder, f"http://127.0.0.1:{port}", graph, Path(scratch))
            sent = max(np.sum(answers["offloaded"]), 1)
            rows.append(
                {
                    "who": f"two processes, {graph}",
                    "accuracy": np.mean(answers["classes"] == labels),
                    "local_share": np.mean(~answers["offloaded"]),
                    "same_decisions": np.mean(answers["offloaded"] == offloaded),
                    "same_classes": np.mean(answers["classes"] == classes),
                    "fallback": np.mean(answers["fallback"]),
                    "bytes_an_offloaded_sample": answers["sent_bytes"] / sent,
                    "p50_ms": 1000 * answers["p50"],
                    "p99_ms": 1000 * answers["p99"],
                }
            )
    table = Table(*rows[-1])
    for row in rows:
        table.add_row(*(_write(row.get(name, "")) for name in rows[-1]))
    Console(width=160).print(table)
    rows = [{k: v if k == "who" else float(v) for k, v in row.items()} for row in rows]
    print(json.dumps({"dataset": options.dataset, "samples": len(images), "rows": rows}))


def device(folder, url, graph, scratch) -> dict:
    """Run a device over the images saved in `scratch`; return what it has answered."""
    files = [str(scratch / "images.npy"), str(scratch / "answers.npz")]
    subprocess.run([sys.executable, "-c", DEVICE, str(folder), url, graph, *files], check=True)
    with np.load(files[1]) as answers:
        return dict(answers)


def _write(value) -> str:
    return value if isinstance(value, str) else f"{value:.4f}" if value <= 1 else f"{value:,.1f}"


if __name__ == "__main__":
    main()
