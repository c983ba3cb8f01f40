"""What a service says of itself: of its model to clients, and of its first version to the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ddnn.files.fields.ranges import LARGEST
from keras_ddnn.serve.cloud.versions import Versions
from keras_ddnn.serve.protocol.answers import (
    FALLBACK,
    LOGITS,
    PROBABILITIES,
    TEMPERATURES,
    TIERS,
)
from keras_ddnn.serve.protocol.requests import offered_outputs
from keras_ddnn.serve.protocol.wire import DATATYPE_OF

NAME = "ddnn"  # of the model, in the paths of the protocol


def metadata_of(manifest: Mapping[str, Any], identities: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of a model, as the Open Inference Protocol v2 has them.

    Args:
        manifest: Of the artefact.
        identities: Of all versions.
    """

    def tensor(name, datatype, shape):
        return {"name": name, "datatype": datatype, "shape": [-1, *shape]}

    sent, classes = manifest["features"], [len(manifest["class_names"])]
    sent_dtype = np.dtype(sent["dtype"])
    outputs = {
        LOGITS: ("FP32", classes),
        TIERS: ("UINT8", []),
        FALLBACK: ("UINT8", []),
        TEMPERATURES: ("FP32", []),
        PROBABILITIES: ("FP32", classes),
    }
    return {
        "name": NAME,
        "versions": [*identities],
        "platform": "tensorflow_savedmodel",
        "inputs": [tensor("features", DATATYPE_OF[sent_dtype], sent["shape"])],
        "outputs": [tensor(name, *outputs[name]) for name in offered_outputs(manifest)],
    }


def state_of(versions: Versions) -> dict[str, Any]:
    """Return what the page shows of the first version, beside what was counted; plain JSON."""
    first = versions.first
    manifest, measure = first.manifest, first.task.measure
    # JSON has no infinity, at which nothing or all is sent.
    ends = -LARGEST, manifest["score_threshold"], LARGEST
    return {
        "plan": manifest["plan"],
        "features": manifest["features"],
        "score_threshold": sorted(ends)[1],
        "dataset": manifest.get("dataset"),
        "model": first.identity,
        "versions": versions.identities,
        "behind": first.tier.state(),
        "measure": {name: getattr(measure, name) for name in ("name", "title", "higher_is_better")},
    }
