"""What a service answers with: the cloud's half of an artefact, or a network that asks further."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from keras_ddnn.files.manifest import CLOUD, artifact_of, model_id, read_manifest
from keras_ddnn.files.notices import EACH_TIME
from keras_ddnn.files.quiet import import_tensorflow, without_chatter
from keras_ddnn.files.signature import Key
from keras_ddnn.rules.recalibration import read_recalibrated
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.tasks.known import task_of
from keras_ddnn.tasks.temperature import temperatures_of

log = logging.getLogger(__name__)
Network = Callable[[np.ndarray], np.ndarray]


class ServedTier(ABC):
    """A tier of a DDNN as a service runs it.

    Attributes:
        at_once: Batches that may run at the same time.
    """

    at_once: int = 1

    @abstractmethod
    def answer(self, features: np.ndarray, deadline: float) -> Answers:
        """Return what is said of n samples.

        Args:
            features: What the tier before sends, (n, ...).
            deadline: Of `deadline`, the earliest of the samples.
        """

    def deadline(self, arrived: float, timeout: float | None) -> float:
        """Return when a request must be answered, by `time.monotonic`: never, where nobody waits.

        Args:
            arrived: When the request came.
            timeout: Seconds that its sender waits from when it sent; None where it did not say.
        """
        return inf

    def close(self) -> None:
        """Let go of what is held for the tiers behind."""
        return

    def metrics(self) -> bytes:
        """Return what is known of the tiers behind, in the text format of Prometheus."""
        return b""

    def state(self) -> dict[str, Any] | None:
        """Return the same as plain JSON; None if there is no tier behind."""
        return None


@dataclass(frozen=True)
class LastTier(ServedTier):
    """A tier behind which there is none.

    Attributes:
        network: What a device sends, float16 (n, h, w, f) for a feature map → logits, float32
            (n, num_classes).
        temperature: Of these logits; see `fit_temperature`.
    """

    network: Network
    temperature: float = 1.0

    def answer(self, features: np.ndarray, deadline: float) -> Answers:
        """Return the logits of the network."""
        return Answers.of_one_tier(self.network(features), self.temperature)


def as_tier(network: Network | ServedTier, manifest: Mapping) -> ServedTier:
    """Return what a service runs; a network alone is the last tier, as its manifest says."""
    if isinstance(network, ServedTier):
        return network
    return LastTier(network, temperatures_of(manifest)["cloud"])


def served_manifest(
    folder: Path, verify_key: Key | None = None, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the manifest of an artefact, as its recalibration says where there is one.

    A recalibration is for the page and for probabilities, so a bad one stops no service: it is
    logged, and what was served before is served on.

    Args:
        folder: The artefact.
        verify_key: The public key that both must be signed by; see `read_manifest`.
        before: The manifest that is served; by default the artefact's own.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: If the manifest is damaged, not signed as asked for, or names no task.
    """
    manifest = read_manifest(folder, verify_key)
    task_of(manifest)  # which is refused before anything is loaded, if it is none
    try:
        return read_recalibrated(folder, manifest, verify_key)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        log.warning("a recalibration is not taken up: %s", reason, extra=EACH_TIME)
        return dict(before or manifest)


def require_graphs(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise ValueError unless an artefact holds the cloud's network."""
    if not any(name.startswith(f"{CLOUD}/") for name in manifest["sha256"]):
        raise ValueError(f"{folder} was saved without graphs; it holds no folder {CLOUD}/")


def load_cloud(run, verify_key: Key | None = None) -> tuple[Network, dict, str]:
    """Load the cloud's network of an artefact, after verifying all of it.

    Args:
        run: The artefact, or the output folder of a search that holds one.
        verify_key: The public key that the artefact must be signed by; see `read_manifest`.

    Returns:
        The network, which has run once, the manifest, as its recalibration says where there is one,
        and the model id: what `make_app` needs.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: If a file is missing or damaged, the signature asked for is missing or wrong,
            its task is none, the artefact has no network for the cloud, or one that does more than
            compute.
    """
    folder = artifact_of(run)
    manifest = served_manifest(folder, verify_key)
    require_graphs(folder, manifest)
    import_tensorflow()
    from keras_ddnn.deploy.cloud_graph import load_step
    from keras_ddnn.networks.batched import BUCKETS, run_in_batches

    sent, classes = manifest["features"], len(manifest["class_names"])

    def network(features):
        return run_in_batches(step, features, BUCKETS)[0]

    with without_chatter():
        step = load_step(folder / CLOUD, sent["shape"], classes, sent["dtype"])
        # The kernels prepare themselves at the first batch, for which no client should wait.
        network(np.zeros((1, *sent["shape"]), sent["dtype"]))
    return network, manifest, model_id(folder)
