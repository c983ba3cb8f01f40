"""What the examples share: both processes of serving an artefact, and whether they agree.

The device is a process of its own, which loads neither TensorFlow nor Keras, and so is the cloud.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from keras_ddnn import OffloadPolicy, load_policy
from keras_ddnn.serve.demo import running_cloud

CLOSE = 1e-4  # of a score to the threshold, where two machines may decide otherwise
DEVICE = """
import sys
import numpy as np
from keras_ddnn.serve.edge.runtime import EdgeRuntime
folder, url, inputs, answers = sys.argv[1:]
with EdgeRuntime(folder, url, deadline_s=30.0) as device:
    answer = device.predict(np.load(inputs))
    np.savez(answers, classes=answer.classes, scores=answer.scores, offloaded=answer.offloaded,
             fallback=answer.fallback, bytes=device.requests.sample_bytes)
assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def served(folder: str | Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return what a device says of inputs (n, ...) when a cloud helps it."""
    with tempfile.TemporaryDirectory() as scratch, running_cloud(folder) as port:
        files = [str(Path(scratch) / name) for name in ("inputs.npy", "answers.npz")]
        np.save(files[0], inputs)
        command = [sys.executable, "-c", DEVICE, str(folder), f"http://127.0.0.1:{port}", *files]
        subprocess.run(command, check=True)
        with np.load(files[1]) as answers:
            return dict(answers)


def parity(name: str, folder: str | Path, inputs: np.ndarray, labels: np.ndarray) -> None:
    """Serve an artefact, and print in one line of JSON how the two machines did.

    Args:
        name: Of the network, for the line.
        folder: The artefact.
        inputs: Test data (n, ...) of the type that the network reads.
        labels: The user's labels, of shape (n,).

    Raises:
        ValueError: If the machines do not answer as the policy in memory does, wherever the score
            is further than `CLOSE` from the threshold.
    """
    policy: OffloadPolicy = load_policy(folder)
    classes, offloaded = policy.predict(inputs)
    there = served(folder, inputs)
    far = np.abs(there["scores"] - policy.score_threshold) > CLOSE
    same = (there["classes"] == classes) & (there["offloaded"] == offloaded)
    found = {
        "network": name,
        "samples": len(inputs),
        "accuracy": round(float(np.mean(there["classes"] == labels)), 4),
        "offloaded": round(float(np.mean(there["offloaded"])), 4),
        "bytes_an_offloaded_sample": int(there["bytes"]),
        "parity": round(float(np.mean(same[far])), 6),
        "close_to_the_threshold": int(np.sum(~far)),
    }
    print(json.dumps(found), flush=True)
    if there["fallback"].any() or not same[far].all():
        raise ValueError(f"{name}: the two machines do not answer as the policy in memory does")
