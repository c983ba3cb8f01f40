"""ONNX graphs of both parts of a policy, for machines that run neither LiteRT nor TensorFlow.

They are converted from the same functions as the LiteRT graph and the SavedModel, by tf2onnx. ONNX
is a format of the Linux Foundation (https://onnx.ai); ONNX Runtime and many others run it.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

from keras_ddnn.deploy.artifact import load_policy
from keras_ddnn.deploy.export import cloud_function, device_function
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.atomic import replacing_file, replacing_folder
from keras_ddnn.files.manifest import (
    ONNX_GRAPHS,
    SIGNATURE,
    artifact_of,
    read_manifest,
    write_manifest,
)
from keras_ddnn.files.notices import notice
from keras_ddnn.files.quiet import without_chatter
from keras_ddnn.files.signature import Key, private_key
from keras_ddnn.rules.recalibration import path_beside

OPSET = 18  # of ONNX 1.13, of the end of 2022
TOLERANCE = 1e-4  # of an output, relative to the largest one where that is above 1
CHECKED_SAMPLES = 16


def add_onnx(run: str | Path, sign: Key | None = None) -> list[Path]:
    """Add the ONNX graphs of both parts to an artefact, whose manifest lists them from then on.

    The rest of the artefact stays as it is. The manifest changes, and the model id with it, so both
    machines need the new artefact. Graphs that are there already are replaced. A recalibration
    beside the artefact is of the former id and does not count any more; that is said.

    Args:
        run: The artefact, or the output folder of a search that holds one.
        sign: A private Ed25519 key, or the PEM file that holds it, by which the new manifest is
            signed. A signed artefact needs it, for the old signature does not hold any more.

    Returns:
        The files that were written; the cloud's alone where the rule cannot be part of a graph.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the artefact is damaged, or signed where no key is given; if a graph
            cannot be converted, or ONNX Runtime computes something else from it.
    """
    key, folder = None if sign is None else private_key(sign), artifact_of(run)
    manifest = read_manifest(folder)
    if key is None and (folder / SIGNATURE).exists():
        raise ValueError(
            f"{folder} is signed, and its signature does not hold for a changed artefact: expected "
            "the private key; received none: pass it as sign, or by --sign"
        )
    policy = load_policy(folder)
    with replacing_folder(folder) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        written = export_onnx(policy, new)
        write_manifest(new, manifest, key)
    if path_beside(folder).exists():
        notice("the recalibration beside the artefact is of its former id: recalibrate anew")
    return [folder / path.name for path in written]


def export_onnx(policy: OffloadPolicy, folder: str | Path) -> list[Path]:
    """Write the ONNX graphs of a policy, each checked in ONNX Runtime before it is kept.

    `device.onnx` has the inputs and outputs of `export_edge`, `cloud.onnx` those of `export_cloud`.
    All arithmetic is float32.

    Args:
        policy: What to export.
        folder: Where; it exists.

    Returns:
        The files; the cloud's alone where the rule cannot be part of a graph.

    Raises:
        OSError: If a file cannot be written.
        ValueError: If tf2onnx has no operation for a layer, or ONNX Runtime does not compute, to
            1e-4, what TensorFlow computes.
    """
    functions = {"cloud": cloud_function(policy)}
    if policy.rule.fits_graph:
        functions["device"] = device_function(policy)
    written = []
    for part, function in functions.items():
        graph = _converted(part, function)
        _require_equal(part, function, graph)
        path = Path(folder) / ONNX_GRAPHS[part]
        with replacing_file(path) as file:
            file.write(graph)
        written.append(path)
    return written


def _converted(part: str, function: tf.types.experimental.PolymorphicFunction) -> bytes:
    loggers = [logging.getLogger(f"tf2onnx.{name}") for name in ("tfonnx", "tf_loader")]
    with without_chatter(), _silent(*loggers):
        try:
            model, _ = tf2onnx.convert.from_function(
                function,
                input_signature=function.input_signature,
                opset=OPSET,
                custom_op_handlers={"Log1p": (_log1p, ["Log"])},
            )
        except Exception as error:  # tf2onnx has errors of its own, and Python's
            raise ValueError(
                f"the {part} network is none that tf2onnx converts: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
    _keep_constants(model.graph, function.get_concrete_function().graph.captures)
    return model.SerializeToString()


def _log1p(context, node, name: str, _) -> tf2onnx.graph.Node:
    """Make log(1 + x) of an operation that ONNX has not; to 6e-8, the step of float32 at 1."""
    one = context.make_const(f"{name}/one", np.ones((), np.float32)).output[0]
    (total,) = context.make_node("Add", [node.input[0], one]).output
    context.replace_input(node, node.input[0], total, 0)
    return node


def _keep_constants(
    graph: onnx.GraphProto, captures: Iterable[tuple[tf.Tensor, tf.Tensor]]
) -> None:
    """Put constants, such as those of a Normalization, into a graph; tf2onnx asks a user for them.

    Args:
        graph: What tf2onnx has made.
        captures: Of the function: what is outside of its graph, and its name inside.
    """
    values = {inside.name: outside for outside, inside in captures}
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.input if tensor.name in values]:
        graph.input.remove(tensor)
        if tensor.name in used:
            value = values[tensor.name].numpy()
            graph.initializer.append(onnx.numpy_helper.from_array(value, tensor.name))


@contextmanager
def _silent(*loggers: logging.Logger) -> Iterator[None]:
    """Keep to one line what fails; tf2onnx logs each operation that it does not know."""
    for logger in loggers:
        logger.addFilter(_nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _require_equal(part: str, function, graph: bytes) -> None:
    """Raise ValueError unless ONNX Runtime computes what TensorFlow computes, on drawn samples."""
    (spec,) = function.input_signature
    inputs = _samples(spec.shape[1:], spec.dtype.as_numpy_dtype)
    try:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        received = dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs})))
    except Exception as error:  # ONNX Runtime's errors have no common class of their own
        raise ValueError(
            f"ONNX Runtime does not run the {part} network: {' '.join(str(error).split())[:200]}"
        ) from error
    expected = {name: np.asarray(value) for name, value in function(tf.constant(inputs)).items()}
    if received.keys() != expected.keys():
        raise ValueError(
            f"expected the outputs {sorted(expected)} of the {part} network; received "
            f"{sorted(received)}"
        )
    for name, value in expected.items():
        room = TOLERANCE * max(1.0, float(np.abs(value).max(initial=0.0)))
        if not np.allclose(received[name], value, rtol=0.0, atol=room, equal_nan=True):
            gap = float(np.nanmax(np.abs(received[name] - value)))
            raise ValueError(
                f"expected {name} of the {part} network in ONNX Runtime within {room:.2g} of "
                f"TensorFlow's; received a difference of {gap:.2g}: keep to LiteRT and SavedModel"
            )


def _samples(shape, dtype: type) -> np.ndarray:
    """Return inputs of a graph: pixels, normal numbers, or the first two ids of tokens."""
    rng, shape = np.random.default_rng(0), (CHECKED_SAMPLES, *shape)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, 256 if dtype is np.uint8 else 2, shape, dtype=dtype)
