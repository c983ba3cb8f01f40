"""What the two machines run: a LiteRT graph for the device, a SavedModel for the cloud."""

import tempfile
import warnings

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_ddnn.data.bank import EdgeOutputs
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.atomic import replacing_file
from keras_ddnn.files.quiet import without_chatter
from keras_ddnn.networks.batched import sent_type

IN_GRAPH = {"xp": tf.experimental.numpy, "precision": "float32"}  # of `EdgeOutputs`
SCORE = "score"  # scope of the operations that stay float32 where the local network is quantised


def export_edge(policy: OffloadPolicy, path, images: np.ndarray | None = None) -> None:
    """Write the device's part of a policy, local network and rule, as one LiteRT graph.

    The graph maps uint8 images (n, height, width, channels) to `local_logits` (n, num_classes),
    `features` (n, h, w, f) and `score` (n,), all float32, by the signature "serving_default". A
    device offloads where the score is at or above the policy's threshold. All arithmetic is
    float32, as in `OffloadPolicy.decide`, whatever precision the policy was trained in.

    Args:
        policy: What to export.
        path: The `.tflite` file; an older one is replaced.
        images: uint8 of shape (n, height, width, channels), of the kind to be met. If given, the
            local network computes in int8, with ranges of these images (post-training
            quantisation), except for its last layer: logits of eight bits would rank samples in a
            few coarse steps. The rule stays float32 too.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the rule cannot be part of a graph.
    """
    device = _device(policy)
    with without_chatter(), tempfile.TemporaryDirectory() as folder:
        _save(device, folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        graph = converter.convert()
        if images is not None:
            graph = _quantised(tf.lite.TFLiteConverter.from_saved_model(folder), graph, images)
    with replacing_file(path) as file:
        file.write(graph)


def export_cloud(policy: OffloadPolicy, folder) -> None:
    """Write the cloud's half of a policy as a SavedModel, normalisation folded.

    Its signature "serving_default" maps `features`, float16 (n, h, w, f), to `logits`, float32
    (n, num_classes): those of `policy.predict`.

    Args:
        policy: What to export.
        folder: Where; it is made.

    Raises:
        OSError: If the folder cannot be written.
    """
    network = policy.cascade.tiers[1].model

    def cloud(features):
        return {"logits": tf.cast(network(features, training=False)["outputs"], tf.float32)}

    read = network.input
    spec = tf.TensorSpec(read.shape, sent_type(read.dtype), name="features")
    with without_chatter():
        _save(tf.function(cloud, input_signature=[spec], autograph=False), folder)


def _device(policy):
    local, rule = policy.cascade.tiers[0].model, policy.rule.for_graph()

    def device(images):
        outputs = local(images, training=False)
        edge = EdgeOutputs(outputs["outputs"], outputs["features"], images, **IN_GRAPH)
        with tf.name_scope(SCORE):
            scores = rule.score(edge)
        return {"local_logits": edge.local_logits, "features": edge.features, "score": scores}

    spec = tf.TensorSpec(local.input.shape, local.input.dtype, name="images")
    return tf.function(device, input_signature=[spec], autograph=False)


def _save(function, folder) -> None:
    module = tf.Module()
    # A SavedModel keeps the variables of its attributes only.
    module.weights = function.get_concrete_function().graph.variables
    module.serve = function
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})


def _quantised(converter, graph: bytes, images) -> bytes:
    """Convert again, with all in int8 but the logits and the score."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    device = Interpreter(model_content=graph)
    outputs = device.get_signature_runner().get_output_details()
    names = [tensor["name"] for tensor in device.get_tensor_details()]
    in_float = [name for name in names if f"{SCORE}/" in name]
    in_float += [outputs[name]["name"] for name in ("local_logits", "score")]
    with warnings.catch_warnings():
        # The one public way to quantise a part of a graph; it loads it into an older interpreter.
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        return tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(
                denylisted_nodes=in_float, denylisted_ops=["TOPK_V2"]
            ),
        ).get_nondebug_quantized_model()
