"""One folder a user can keep or ship: weights, head, threshold and a manifest with hashes.

The hashes tell of damage, not of origin: an artefact of somebody else can have hashes that are
right. It is read as data, never run as code, and its networks compute and no more; but only a
signature tells whose artefact it is. See `save_policy(sign=…)` and `load_policy(verify_key=…)`.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from keras_ddnn.config.training import DDNNConfig
from keras_ddnn.data.bank import CLOUD as CLOUD_TIER
from keras_ddnn.data.bank import LOCAL, Bank
from keras_ddnn.data.classes import KEY, labels_of
from keras_ddnn.data.quantisation import Quantisation
from keras_ddnn.deploy.export import edge_graphs, export_cloud
from keras_ddnn.deploy.model_card import model_card
from keras_ddnn.deploy.network_files import DDNN_WEIGHTS, load_network, save_network
from keras_ddnn.deploy.policy import OffloadPolicy
from keras_ddnn.files.atomic import replacing_folder
from keras_ddnn.files.manifest import (
    CLOUD,
    EDGE_GRAPHS,
    MANIFEST,
    read_manifest,
    require_listed,
    write_manifest,
)
from keras_ddnn.files.records import as_json
from keras_ddnn.files.signature import Key, private_key
from keras_ddnn.heads.fit import HeadRule
from keras_ddnn.heads.mc_dropout import MCDropout
from keras_ddnn.labels.logit_head import LogitHead
from keras_ddnn.labels.rule_file import LOGIT_RULES
from keras_ddnn.networks.cascade import Cascade, as_cascade
from keras_ddnn.networks.costs.model_costs import multiply_adds
from keras_ddnn.networks.layers import waiting_for_data
from keras_ddnn.networks.paper import build_ddnn
from keras_ddnn.networks.weights import rebuild
from keras_ddnn.rules.calibration import Calibration, operating_points
from keras_ddnn.rules.confidence import OffloadRule, SecondLook, Width, name_of, untrained_rules
from keras_ddnn.tasks.classification import CLASSIFICATION
from keras_ddnn.tasks.known import task_as_json, task_of
from keras_ddnn.tasks.temperature import fit_temperature

README = "README.md"
RANGE_SAMPLES = 256  # validation samples that give the ranges of codes

# Name in a manifest → rule; `files/fields/rules.py` has a row for each.
ARTIFACT_RULES: dict[str, type[OffloadRule]] = {
    **LOGIT_RULES,
    "width": Width,
    "second_look": SecondLook,
    "head": HeadRule,
    "mc_dropout": MCDropout,
}


def save_policy(
    policy: OffloadPolicy,
    folder: str | Path,
    metrics: dict | None = None,
    *,
    val_bank: Bank | None = None,
    calibration: Calibration | None = None,
    temperatures: Mapping[str, float] | None = None,
    dataset: str | None = None,
    graphs: bool = True,
    sign: Key | None = None,
) -> None:
    """Write a policy to a folder, whole or not at all; an older one there is replaced.

    The folder holds weights for `load_policy`, the layers of a network that is not the paper's as
    plain JSON, the graphs of both machines (`export_edge`,
    `export_cloud`), a README that tells what it is, and a manifest with hashes. A rule that cannot
    be part of a graph is kept without one for the device.

    Args:
        policy: What to save.
        folder: Where.
        metrics: Plain numbers to keep in the manifest.
        val_bank: Validation samples. They give the ranges of the device's int8 graph and, unless a
            bottleneck was trained with its own or the inputs travel, of the codes of features,
            neither of which there is without them, what other thresholds would lead to, and the
            temperatures.
        calibration: Where the threshold comes from.
        temperatures: "local" and "cloud" → that of the tier's logits, for probabilities; those of
            `val_bank` by default.
        dataset: What the data are called that the validation samples come from.
        graphs: Whether to write graphs; without, the policy is saved in a blink.
        sign: A private Ed25519 key, or the PEM file that holds it: a signature of the manifest is
            written beside it, by which a reader with the public key knows whose artefact it is.
            See `keras_ddnn.files.signature`.

    Raises:
        OSError: If the folder cannot be written.
        ValueError: If the task, the rule or a layer is none that `load_policy` could make again, a
            graph cannot be made, or the key is none.
    """
    key = None if sign is None else private_key(sign)
    task = task_as_json(policy.cascade.task)
    with replacing_folder(folder) as new:
        name = name_of(policy.rule, ARTIFACT_RULES, "an artefact keeps a rule that is")
        rule = {"name": name, **policy.rule.save(new)}
        network = save_network(policy, new)
        cascade, device = policy.cascade, policy.cascade.tiers[0]
        images = plan = None
        trained_codes = quantisation = cascade.quantisation
        if val_bank is not None:
            typical = _spread(len(val_bank), RANGE_SAMPLES)
            # What a tier before has sent is float16, and is computed with as float32.
            images = np.asarray(val_bank.edge.inputs[typical], cascade.reads.dtype)
            if trained_codes is None and device.sent_dtype == "float16":
                quantisation = Quantisation.of(val_bank.edge.features[typical])
            plan = operating_points(policy.rule.score(val_bank.edge), val_bank)
            temperatures = temperatures or fit_temperatures(val_bank)
        if graphs:
            _export(policy, new, images)
        manifest = {
            "ddnn": policy.config and as_json(policy.config),
            "network": network,
            "input_shape": list(cascade.reads.shape),
            "input_dtype": cascade.reads.dtype,
            "class_names": list(map(str, policy.class_names)),
            "rule": rule,
            "score_threshold": policy.score_threshold,
            "metrics": _device_cost(policy) | (metrics or {}),
            "calibration": calibration and asdict(calibration),
            "features": {
                "shape": list(cascade.tiers[1].model.input.shape[1:]),
                "dtype": device.sent_dtype,
                "are_inputs": device.sends_inputs,
                "quantisation": quantisation and quantisation.as_json(),
                "lossless": trained_codes is not None,  # codes say all of the features
            },
            "plan": plan,
            "versions": {name: version(name) for name in ("keras", "tensorflow", "numpy")},
            "platform": platform.platform(),
        }
        if task["name"] != CLASSIFICATION.name:  # which is meant where none is named
            manifest["task"] = task
        if not policy.classes.are_numbers:
            manifest[KEY] = list(policy.classes.values)
        if temperatures:
            manifest["temperatures"] = dict(temperatures)
        if dataset is not None:
            manifest["dataset"] = dataset
        if policy.reading is not None:
            manifest["reading"] = dict(policy.reading)
        found = [name for name in EDGE_GRAPHS.values() if (new / name).exists()]
        (new / README).write_text(model_card(manifest, found), encoding="utf-8")
        write_manifest(new, manifest, key)


def fit_temperatures(bank: Bank) -> dict[str, float]:
    """Return the temperature of the logits of either end of a bank, "local" and "cloud".

    It is empty where outputs are no logits.
    """
    if "probabilities" not in bank.task.gives:
        return {}
    ends = {LOCAL: bank.edge.outputs, CLOUD_TIER: bank.cloud_logits}
    return {name: fit_temperature(outputs, bank.targets) for name, outputs in ends.items()}


def require_keepable(network: Cascade) -> None:
    """Raise ValueError, in one line, unless `save_policy` can keep a network; before training.

    It makes both graphs of the network as it is, with a rule that costs little. Layers that wait
    for training data get weights of no meaning: graphs are alike whatever they hold.
    """
    network = network.copy()
    for layer in waiting_for_data(network.model):
        layer.set_weights([np.ones_like(weights) for weights in layer.get_weights()])
    columns = network.tiers[-1].model.output["outputs"].shape[-1]
    *_, rule = (
        LogitHead(np.zeros((columns, 2)), np.zeros(2), input="logits"),
        *(rule for rule in untrained_rules(network.task).values() if rule.fits_graph),
    )
    policy = OffloadPolicy(network, None, rule, 0.5, tuple(map(str, range(columns))))
    with TemporaryDirectory() as folder:
        save_policy(policy, Path(folder) / "artifact")


def _device_cost(policy: OffloadPolicy) -> dict[str, int]:
    """Return the multiply-adds of the device's graph, by which its speed is measured."""
    local = multiply_adds(policy.cascade.tiers[0].model)
    if local is None:
        return {}
    looks = 2 if policy.cascade.second_look else 1
    return {"device_multiply_adds": looks * local + policy.rule.multiply_adds}


def _export(policy, new: Path, images) -> None:
    export_cloud(policy, new / CLOUD)
    if policy.rule.fits_graph:
        for name, graph in edge_graphs(policy, images).items():
            (new / EDGE_GRAPHS[name]).write_bytes(graph)


def _spread(n: int, count: int) -> np.ndarray:
    """Return `count` places, or n if that is less, spread evenly over 0..n-1."""
    return np.unique(np.linspace(0, n - 1, min(n, count)).round().astype(int))


def load_policy(folder: str | Path, verify_key: Key | None = None) -> OffloadPolicy:
    """Read a policy saved by `save_policy`, after verifying every file.

    Args:
        folder: Where it was saved.
        verify_key: A public Ed25519 key, or the PEM file that holds it. If given, only an artefact
            signed by its private key is read. Without, the hashes tell that the artefact is as it
            was written, but not by whom.

    Returns:
        OffloadPolicy: One that decides and predicts as the one saved.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: In one line and before anything is built, if the manifest is not as
            `read_manifest` expects, the signature asked for is missing or of another key, or
            the files are not those of the network that the manifest describes.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, verify_key)
    rule = dict(manifest["rule"])
    kind = ARTIFACT_RULES[rule.pop("name")]
    require_listed(manifest, folder, DDNN_WEIGHTS, *kind.files)
    try:
        task, classes = task_of(manifest), labels_of(manifest)
        config = manifest["ddnn"] and DDNNConfig(**manifest["ddnn"])
    except ValueError as error:
        raise ValueError(f"{folder / MANIFEST}: {error}") from None
    class_names = tuple(manifest["class_names"])
    if config is not None:
        shape, count = manifest["input_shape"], len(class_names)
        network = rebuild(lambda: build_ddnn(shape, count, config), folder / DDNN_WEIGHTS)
    else:
        network = load_network(folder, manifest)
    if task is not CLASSIFICATION:
        network = replace(as_cascade(network), task=task)
    try:
        loaded = kind.load(rule, folder, network)
    except ValueError as error:
        raise ValueError(f"{folder / MANIFEST}: {error}") from None
    threshold = manifest["score_threshold"]
    data = {"classes": classes, "reading": manifest.get("reading")}
    return OffloadPolicy(network, config, loaded, threshold, class_names, **data)
