"""The device's graph of an artefact, which is opened only if it is what the manifest describes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_ddnn.files.manifest import EDGE_GRAPHS, MANIFEST, SIGNATURE, inputs_name
from keras_ddnn.files.quiet import without_chatter


def open_graph(path: Path, manifest: Mapping) -> Interpreter:
    """Open a graph of `export_edge` on one thread.

    LiteRT's own operations compute, and touch neither files nor the network. A graph with others,
    custom ones or those of TensorFlow ("flex"), is refused, for this package registers none.

    Args:
        path: The `.tflite` file.
        manifest: Of its artefact, which says the shapes of inputs, logits and features.

    Returns:
        Interpreter: Ready to run a signature from `images`, uint8 (n, h, w, c), or `inputs` of
            another kind, to `local_logits`, `score` and, unless the inputs travel, `features`.

    Raises:
        ValueError: In one line, if it is no graph of LiteRT, holds operations that LiteRT does not
            have, or is of other shapes or types.
    """
    try:
        with without_chatter():
            interpreter = Interpreter(str(path), num_threads=1)
            interpreter.allocate_tensors()  # which finds operations that are not there
        runner = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no graph that LiteRT runs: {reason}") from error
    dtype, features = manifest["input_dtype"], manifest["features"]
    made = "float32" if features["dtype"] == "float16" else features["dtype"]
    expected = {
        inputs_name(dtype): (dtype, manifest["input_shape"]),
        "local_logits": ("float32", [len(manifest["class_names"])]),
        **({} if features["are_inputs"] else {"features": (made, features["shape"])}),
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


def graph_of(folder: Path, manifest: Mapping, graph: str) -> Path:
    """Return the file of a graph, a key of `EDGE_GRAPHS`, in an artefact.

    Raises:
        ValueError: If the artefact holds none.
    """
    files = manifest["sha256"]
    if (name := EDGE_GRAPHS[graph]) in files:
        return folder / name
    if EDGE_GRAPHS["float"] in files:
        raise ValueError(
            f"{folder} holds no {name}, for it was saved without validation data: save the policy "
            "again by save_policy(..., val_bank=...), or use --graph float"
        )
    raise ValueError(
        f"{folder} holds no {name}: it was saved by graphs=False, or its rule, "
        f"{manifest['rule']['name']}, cannot be part of a graph: save it again with graphs and "
        "another rule"
    )


def bytes_of_files(path: Path) -> int:
    """Return the bytes of the files that a device needs of an artefact, by its graph's path.

    They are the graph, the manifest and, if there is one, its signature; the sizes are those of the
    files, without what a file system adds.
    """
    needed = (path, path.with_name(MANIFEST), path.with_name(SIGNATURE))
    return sum(file.stat().st_size for file in needed if file.exists())


def _said(tensors: Mapping) -> str:
    return ", ".join(f"{name} {kind} (n, *{shape})" for name, (kind, shape) in tensors.items())
