"""A network in the folder of an artefact: layers as JSON, weights as HDF5, and what is sent."""

import json
from collections.abc import Mapping
from pathlib import Path

from keras_ddnn.data.outputs import TIERS
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.fields.content import INPUT_TYPES, SENT_TYPES
from keras_ddnn.files.manifest import require_listed
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.paper import save_weights
from keras_ddnn.networks.weights import describe, from_description, read_description, rebuild

DDNN_WEIGHTS = "ddnn.weights.h5"
NETWORK = "network.json"  # what a network that is not the paper's is made of


def save_network(policy: OffloadPolicy, folder: Path) -> dict | None:
    """Write weights and, of a network that is not the paper's, layers; return what is sent of it.

    None for the network of the paper, which is made from its configuration.
    """
    cascade = as_cascade(policy.model)
    _require_types(cascade)
    save_weights(cascade.model, folder / DDNN_WEIGHTS)
    if policy.config is not None:
        return None
    (folder / NETWORK).write_text(json.dumps(describe(cascade.model)), encoding="utf-8")
    looks = {"second_look": True} if cascade.second_look else {}
    return {"sent": list(cascade.sent), **looks}


def _require_types(cascade: Cascade) -> None:
    if len(cascade.tiers) != len(TIERS):
        raise ValueError(
            f"an artefact has two tiers, a device and a cloud; received {len(cascade.tiers)}, "
            f"{', '.join(tier.name for tier in cascade.tiers)}: save_tiers keeps one for each hop"
        )
    reads, device = cascade.reads, cascade.tiers[0]
    image = reads.dtype == "uint8"
    if reads.dtype not in INPUT_TYPES or image != reads.holds_images or None in reads.shape:
        raise ValueError(
            "an artefact serves networks of images, uint8 (height, width, channels), of several "
            "cameras (camera, height, width, channels), and of inputs of a fixed shape of type "
            f"{', '.join(INPUT_TYPES[1:])}; received {reads.dtype} of shape {reads.shape}"
        )
    sent = device.model.output["features"]
    if device.sent_dtype not in SENT_TYPES or None in sent.shape[1:]:
        raise ValueError(
            f"an artefact sends {', '.join(SENT_TYPES)} of a fixed shape; received "
            f"{device.sent_dtype} of shape {tuple(sent.shape[1:])} from {cascade.sent[0]!r}"
        )


def load_network(folder: Path, manifest: Mapping) -> Cascade:
    """Make a network that is not the paper's of its files, which are verified already."""
    require_listed(manifest, folder, NETWORK)
    path = folder / NETWORK
    description, sent = read_description(path), tuple(manifest["network"]["sent"])
    model = rebuild(lambda: from_description(description), folder / DDNN_WEIGHTS)
    features = manifest["features"]
    expected = {
        "reads": [manifest["input_shape"], manifest["input_dtype"]],
        "sends": [features["shape"], features["dtype"], features["are_inputs"]],
        "answers": {name: len(manifest["class_names"]) for name in TIERS},
    }
    try:
        cascade = Cascade(model, sent, second_look=manifest["network"].get("second_look", False))
        device, cloud = cascade.tiers
        received = {
            "reads": [list(cascade.reads.shape), cascade.reads.dtype],
            "sends": [
                list(cloud.model.input.shape[1:]),
                device.sent_dtype,
                device.sends_inputs,
            ],
            "answers": {name: out.shape[-1] for name, out in model.output.items()},
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} describes no network that sends {sent[0]!r}: {reason}") from error
    if received != expected:
        raise ValueError(f"{path}: the manifest expects {expected}; received {received}")
    return cascade
