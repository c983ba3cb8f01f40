"""What the two machines run: a LiteRT graph for the device, a SavedModel for the cloud."""

import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_ddnn.data.tier_outputs import TierOutputs
from keras_ddnn.deploy.cloud_graph import SAVED_MODEL, checked
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.manifest import inputs_name
from keras_ddnn.files.quiet import without_chatter
from keras_ddnn.networks.batched import mirror
from keras_ddnn.networks.codes import CODES, COMPONENTS

IN_GRAPH = {"xp": tf.experimental.numpy, "precision": "float32"}  # of `TierOutputs`
SCORE = "score"  # scope of the rule
# Operations that stay float32 where the local network is quantised. Keras numbers scopes of layers.
IN_FLOAT = re.compile(rf"({SCORE}|{COMPONENTS}|{CODES})(_\d+)?/")


def export_edge(policy: OffloadPolicy, path, images: np.ndarray | None = None) -> None:
    """Write the device's part of a policy, local network and rule, as one LiteRT graph.

    The graph maps `images`, uint8 (n, height, width, channels), or `inputs` of another kind, to
    `local_logits` (n, num_classes) and `score` (n,), float32, and to `features` (n, ...), by the
    signature "serving_default". Where the inputs themselves are sent it returns no features. A
    device offloads where the score is at or above the policy's threshold. All arithmetic is
    float32, as in `OffloadPolicy.decide`, whatever precision the policy was trained in.

    Args:
        policy: What to export.
        path: The `.tflite` file; an older one is replaced.
        images: Inputs of the network (n, ...), of the kind to be met. If given, the local network
            computes in int8, with ranges of these inputs (post-training quantisation), except for
            its last layer: logits of eight bits would rank samples in a few coarse steps. The rule
            stays float32 too, and so do layers and scopes that are called, or end in, "score", and
            those that make codes of patches, whose remainders are finer than eight bits. A network
            of one layer is so left as it is.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the rule cannot be part of a graph, or LiteRT has no operation for a layer.
    """
    graphs = edge_graphs(policy, images)
    with replacing_file(path) as file:
        file.write(graphs["float" if images is None else "int8"])


def edge_graphs(policy: OffloadPolicy, images: np.ndarray | None = None) -> dict[str, bytes]:
    """Return both graphs of the device, made of one trace: "float" and, with images, "int8".

    Args and errors are those of `export_edge`.
    """
    device = device_function(policy)
    with without_chatter(), tempfile.TemporaryDirectory() as folder:
        _save(device, folder)
        try:
            converter = tf.lite.TFLiteConverter.from_saved_model(folder)
            graphs = {"float": converter.convert()}
            if images is not None:
                graphs["int8"] = _quantised(converter, graphs["float"], images)
        except Exception as error:  # the converter has errors of its own, and Python's
            raise ValueError(
                f"the local network is none that LiteRT runs: {_reason(error)}"
            ) from error
    return graphs


def export_cloud(policy: OffloadPolicy, folder) -> None:
    """Write the cloud's half of a policy as a SavedModel, normalisation folded.

    Its signature "serving_default" maps `features`, what the device sends, float16 (n, h, w, f) for
    a feature map, to `logits`, float32 (n, num_classes): those of `policy.predict`.

    Args:
        policy: What to export.
        folder: Where; it is made.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If `load_step` would refuse it: a layer does more than compute.
    """
    with without_chatter():
        _save(cloud_function(policy), folder)
    checked(Path(folder) / SAVED_MODEL)


def cloud_function(policy: OffloadPolicy) -> tf.types.experimental.PolymorphicFunction:
    """Return the cloud's half of a policy as one function of TensorFlow; see `export_cloud`."""
    device, network = policy.cascade.tiers[0], policy.cascade.tiers[1].model

    def cloud(features):
        return {"logits": tf.cast(network(features, training=False)["outputs"], tf.float32)}

    spec = tf.TensorSpec(network.input.shape, device.sent_dtype, name="features")
    return tf.function(cloud, input_signature=[spec], autograph=False)


def device_function(policy: OffloadPolicy) -> tf.types.experimental.PolymorphicFunction:
    """Return the device's part of a policy as one function of TensorFlow; see `export_edge`.

    Raises:
        ValueError: If the rule cannot be part of a graph.
    """
    cascade, rule = policy.cascade, policy.rule.for_graph()
    local = cascade.tiers[0].model

    def device(images):
        outputs = local(images, training=False)
        known = {"task": cascade.task, **IN_GRAPH}
        if cascade.second_look:
            known["mirrored"] = local(mirror(images), training=False)["outputs"]
        edge = TierOutputs(outputs["outputs"], outputs["features"], images, **known)
        with tf.name_scope(SCORE):
            scores = rule.score(edge)
        features = {} if cascade.tiers[0].sends_inputs else {"features": edge.features}
        return {"local_logits": edge.outputs, **features, "score": scores}

    name = inputs_name(cascade.reads.dtype)
    spec = tf.TensorSpec(local.input.shape, local.input.dtype, name=name)
    return tf.function(device, input_signature=[spec], autograph=False)


def _reason(error: Exception) -> str:
    """Return in one line why the converter has failed."""
    if "TensorList" in str(error):
        return "it holds a loop; give its recurrent layers unroll=True"
    unknown = sorted(set(re.findall(r"'tf\.(\w+)'", str(error))))
    return f"it has no {', '.join(unknown)}" if unknown else " ".join(str(error).split())[:200]


def _save(function, folder) -> None:
    module = tf.Module()
    # A SavedModel keeps the variables of its attributes only.
    module.weights = function.get_concrete_function().graph.variables
    module.serve = function
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})


def _quantised(converter, graph: bytes, images) -> bytes:
    """Convert again, with all in int8 but the logits and the score; the same if that is all."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    device = Interpreter(model_content=graph)
    outputs = device.get_signature_runner().get_output_details()
    names = [tensor["name"] for tensor in device.get_tensor_details()]
    in_float = [name for name in names if IN_FLOAT.search(name)]
    in_float += [outputs[name]["name"] for name in ("local_logits", "score")]
    with warnings.catch_warnings():
        # The one public way to quantise a part of a graph; it loads it into an older interpreter.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        try:
            debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter,
                debug_dataset=converter.representative_dataset,
                debug_options=tf.lite.experimental.QuantizationDebugOptions(
                    denylisted_nodes=in_float, denylisted_ops=["TOPK_V2"]
                ),
            )
        except ValueError as error:
            if "in debug mode" in str(error):  # it has found nothing in int8
                return graph
            raise
        return debugger.get_nondebug_quantized_model()
