"""A manifest whose every field a reader can check by hand."""

import json
from pathlib import Path

from keras_ddnn.files.checksums import sha256_of_json

DDNN = {
    "local_filters": 4,
    "local_pool": True,
    "local_units": 8,
    "local_dropout": 0.0,
    "cloud_filters": [[4], [8]],
    "cloud_units": [8],
    "dropout": 0.25,
    "lambda_local": 0.5,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.001,
    "schedule": "plateau",
    "augmentation": "none",
    "precision": "float32",
    "stages": 0,
    "seed": 0,
}
HEAD_CONFIG = {
    "input": "logits",
    "architecture": "mlp",
    "depth": 1,
    "target": "hard",
    "loss": "bce",
    "cost": "true_class",
    "labels": "final_epoch",
    "anchored": True,
    "local_fraction": 0.5,
    "oversample": False,
    "dropout": 0.3,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.001,
    "patience": 3,
    "precision": "float32",
    "seed": 0,
}
OUTCOME = {"local_fraction": 0.5, "accuracy": 0.8, "accuracy_drop": 0.1, "disagreement": 0.2}
CONTENT = {
    "ddnn": DDNN,
    "network": None,
    "input_shape": [16, 16, 3],
    "input_dtype": "uint8",
    "class_names": ["a", "b"],
    "rule": {
        "name": "head",
        "config": HEAD_CONFIG,
        "input_shape": [2],
        "anchor": {"rule": "margin", "weight": 0.5, "scales": [[0.5, 0.1], [0.0, 1.0]]},
    },
    "score_threshold": 0.5,
    "metrics": {"val_audc": 0.8},
    "calibration": {
        "name": "local_fraction",
        "score_threshold": 0.5,
        "promise": "between 40% and 60% of samples stay local",
        "limits": {"local_fraction": [0.4, 0.6]},
        "numbers": {"n": 100, "options": {"local_fraction": 0.5}, "validation": OUTCOME},
        "prices": {},
    },
    "features": {
        "shape": [8, 8, 4],
        "dtype": "float16",
        "are_inputs": False,
        "quantisation": {"low": 0.0, "step": 0.1, "bits": 8},
        "lossless": False,
    },
    "plan": [{"score_threshold": 0.5, "local_fraction": 0.5, "accuracy": 0.8, "disagreement": 0.2}],
    "versions": {"numpy": "2"},
    "platform": "Linux",
}


def changed(content: dict, path: str, value) -> dict:
    """Return a copy in which the field at a path, "a.b.0", has another value."""
    content = json.loads(json.dumps(content))
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


def removed(content: dict, path: str) -> dict:
    """Return a copy without the field at a path."""
    content = json.loads(json.dumps(content))
    *parents, last = path.split(".")
    place = content
    for key in parents:
        place = place[key]
    del place[last]
    return content


def forge(folder: Path, change) -> None:
    """Change a manifest as someone would who knows the format: the hash of it is right again.

    Args:
        folder: The artefact.
        change: Manifest → the one to write.
    """
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["seal"]
    manifest = change(manifest)
    path.write_text(json.dumps(manifest | {"seal": sha256_of_json(manifest)}))
