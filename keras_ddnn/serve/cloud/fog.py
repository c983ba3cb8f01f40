"""A tier between: a service towards devices, and a device towards the service behind it.

It needs LiteRT, and no TensorFlow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import generate_latest

from keras_ddnn.files.checks import expect
from keras_ddnn.files.manifest import MANIFEST, artifact_of, model_id, require_next
from keras_ddnn.files.signature import Key
from keras_ddnn.serve.cloud.network import ServedTier, served_manifest
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.protocol.answers import Answers
from keras_ddnn.serve.protocol.link import CONNECTIONS

DEADLINE = 0.2  # seconds; a device waits for 0.25 unless told otherwise
RESERVE = 0.05  # seconds
LONGEST = 10.0  # seconds that a device can have a tier wait, whatever it says


@dataclass(frozen=True)
class FogTier(ServedTier):
    """A tier that answers what it can, and asks the one behind it about the rest.

    It answers by itself where that one does not in time. Deadlines shrink on the way: what a device
    waits for its answer, less a reserve, is what this tier waits for its own.

    Attributes:
        runtime: The device of the next artefact; its `deadline_s` is for requests without one.
        reserve: Seconds of a device's timeout that are kept for the way of its request, which that
            timeout does not know, for the way back, and for this tier's own network.
    """

    runtime: EdgeRuntime
    reserve: float = RESERVE
    at_once = CONNECTIONS  # most of a batch's time is spent waiting

    def answer(self, features: np.ndarray, deadline: float) -> Answers:
        """Return what the runtime says, or what the tiers behind it do."""
        read = features.astype(self.runtime.manifest["input_dtype"], copy=False)
        said = self.runtime.predict(read, deadline=deadline)
        temperatures = said.temperatures  # None of numbers
        if temperatures is None:
            temperatures = np.ones(len(read), np.float32)
        return Answers(said.logits, said.tiers, said.fallback, temperatures)

    def deadline(self, arrived: float, timeout: float | None) -> float:
        """Return until when the tier behind is waited for, by `time.monotonic`."""
        if timeout is None:
            return arrived + self.runtime.deadline_s
        return arrived + min(timeout - self.reserve, LONGEST)

    def metrics(self) -> bytes:
        """Return the metrics of a device, `ddnn_edge_…`: those of the questions asked here."""
        return generate_latest(self.runtime.metrics.registry)

    def close(self) -> None:
        """Close the connections to the tier behind, and log why it did not answer."""
        self.runtime.close()

    def state(self) -> dict[str, Any]:
        """Return who answered, why the tier behind did not, and the state of its breaker."""
        metrics = self.runtime.metrics
        return {**metrics.numbers(), "causes": metrics.causes(), "breaker": self.runtime.breaker}


def load_fog(
    run: str | Path,
    upstream: str,
    onward: str | Path | None = None,
    *,
    verify_key: Key | None = None,
    deadline_s: float = DEADLINE,
    reserve: float = RESERVE,
    **options: Any,
) -> tuple[FogTier, dict, str]:
    """Load a tier between, after verifying both of its artefacts.

    Args:
        run: The artefact that its devices run.
        upstream: URL of the service behind it.
        onward: The artefact that this service runs; by default that of the next number, as
            `save_tiers` writes them.
        verify_key: The public key that both must be signed by; see `read_manifest`.
        deadline_s: Seconds for the answer to a request that does not say how long it waits.
        reserve: See `FogTier`.
        options: Of `EdgeRuntime`.

    Returns:
        The tier, the manifest and the model id: what `make_app` needs.

    Raises:
        OSError: If the file of the key cannot be read.
        ValueError: As `EdgeRuntime` does; or if there is no next artefact, or it does not read what
            the devices send.
    """
    folder = artifact_of(run)
    manifest = served_manifest(folder, verify_key)
    onward = _next_of(folder) if onward is None else artifact_of(onward)
    expect(0.0 <= reserve < float("inf"), "reserve", "seconds, at least 0", reserve)
    runtime = EdgeRuntime(onward, upstream, verify_key=verify_key, deadline_s=deadline_s, **options)
    require_next(manifest, runtime.manifest)
    return FogTier(runtime, reserve), manifest, model_id(folder)


def _next_of(folder: Path) -> Path:
    """Return the artefact of the next hop."""
    name = folder.resolve().name
    following = folder.resolve().with_name(str(int(name) + 1)) if name.isdecimal() else None
    if following is None or not (following / MANIFEST).exists():
        raise ValueError(
            f"expected --onward, the artefact of the next two tiers; received none, and "
            f"{following or folder} holds none that follows by its number"
        )
    return following
