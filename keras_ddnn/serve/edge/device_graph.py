"""The device's graph of an artefact, which is opened only if it is what the manifest describes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def open_graph(path: Path, manifest: Mapping) -> Interpreter:
    """Open a graph of `export_edge` on one thread.

    LiteRT's own operations compute, and touch neither files nor the network. A graph with others,
    custom ones or those of TensorFlow ("flex"), is refused, for this package registers none.

    Args:
        path: The `.tflite` file.
        manifest: Manifest of its artefact, which says the shapes of images, logits and features.

    Returns:
        Interpreter: Ready to run a signature from images, uint8 (n, h, w, c), to `local_logits`,
            `features` and `score`, all float32.

    Raises:
        ValueError: In one line, if it is no graph of LiteRT, holds operations that LiteRT does not
            have, or is of other shapes or types.
    """
    try:
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()  # which finds operations that are not there
        runner = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no graph that LiteRT runs: {reason}") from error
    classes = len(manifest["class_names"])
    expected = {
        "images": ("uint8", manifest["input_shape"]),
        "local_logits": ("float32", [classes]),
        "features": ("float32", manifest["features"]["shape"]),
        "score": ("float32", []),
    }
    details = runner.get_input_details() | runner.get_output_details()
    received = {
        name: (np.dtype(tensor["dtype"]).name, [int(side) for side in tensor["shape"][1:]])
        for name, tensor in details.items()
    }
    if received != expected:
        raise ValueError(
            f"{path}: expected {_said(expected)}, as its manifest says; received {_said(received)}"
        )
    return interpreter


def _said(tensors: Mapping) -> str:
    return ", ".join(f"{name} {kind} (n, *{shape})" for name, (kind, shape) in tensors.items())
