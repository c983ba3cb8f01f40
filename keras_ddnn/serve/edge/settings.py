"""What a device decides by: its artefact's own values, or those of a recalibration beside it."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from keras_ddnn.files.notices import EACH_TIME, notice
from keras_ddnn.files.signature import Key, public_key
from keras_ddnn.rules.confidence import offloads
from keras_ddnn.rules.recalibration import path_beside, read_recalibrated
from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.tasks.temperature import temperatures_of

ARTIFACT, RECALIBRATION = "artifact", "recalibration"
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Settings:
    """What decides of the samples of one call.

    Attributes:
        score_threshold: Samples with a score at or above it are offloaded, unless guarded.
        source: Whose threshold that is: "artifact", "recalibration", "set" where the program or its
            user has set it, "call" where it is an argument of the call, or "guard".
        temperatures: "local" and "cloud" → that of the logits of the tier.
        guard: The drift guard, or None.
        calibrated: Whether the temperatures are known; those of an older artefact are 1.
    """

    score_threshold: float
    source: str
    temperatures: Mapping[str, float]
    guard: DriftGuard | None
    calibrated: bool = True

    @cached_property
    def known_temperatures(self) -> Mapping[str, float]:
        """The temperatures; if they are not known, that is said, once."""
        if not self.calibrated:
            notice(
                "the artefact keeps no temperatures: its probabilities are those of the networks "
                "as they were trained (temperature 1); keras-ddnn recalibrate finds temperatures"
            )
        return self.temperatures

    def with_threshold(self, score_threshold: float | None, source: str) -> "Settings":
        """Return the same with another threshold; itself for None.

        Raises:
            ValueError: If a guard decides, which moves the threshold itself.
        """
        if score_threshold is None:
            return self
        if self.guard:
            raise ValueError(
                f"a drift guard moves the threshold itself; received {score_threshold!r}: leave "
                "out the threshold or the guard"
            )
        return replace(self, score_threshold=float(score_threshold), source=source)

    def decide(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which samples to offload, and which to audit, both bool (n,), by scores (n,)."""
        if self.guard:
            return self.guard.decide(scores)
        return offloads(scores, self.score_threshold), np.zeros(len(scores), bool)


class CurrentSettings:
    """Reads the recalibration of an artefact whenever its file changes; threads may share it.

    A file that is damaged, unsigned where a signature is asked for, or of another artefact changes
    nothing: it is logged once, and what was used before is used on. Where the file is deleted, the
    artefact's own values count again.

    Args:
        folder: The artefact.
        manifest: What `read_manifest` returns of it.
        verify_key: The public key that recalibrations must be signed by.
        guarded: Whether a drift guard decides; each recalibration gets a new one.

    Attributes:
        taken_up, refused: How many recalibrations were taken up, and how many were not.

    Raises:
        ValueError: If the artefact holds nothing that a guard needs.
    """

    def __init__(
        self,
        folder: str | Path,
        manifest: Mapping[str, Any],
        verify_key: Key | None = None,
        *,
        guarded: bool = False,
    ):
        self._folder, self._manifest = Path(folder), manifest
        self._key = None if verify_key is None else public_key(verify_key)
        self._guarded = guarded
        self._path = path_beside(folder)
        self._reading = Lock()
        self._state: tuple[int, ...] | None = None
        self._set: float | None = None
        self.taken_up = self.refused = 0
        self._settings = self._of(manifest, ARTIFACT)

    def now(self) -> Settings:
        """Return what to decide by; a new file is read first, by one thread."""
        if self._state_of_file() != self._state and self._reading.acquire(blocking=False):
            try:
                self._read()
            finally:
                self._reading.release()
        return self._settings.with_threshold(self._set, "set")

    def set_threshold(self, score_threshold: float | None) -> None:
        """Have this threshold decide, whatever is read; None to return to what is read.

        Raises:
            ValueError: If a guard decides.
        """
        self._settings.with_threshold(score_threshold, "set")
        self._set = score_threshold

    def guard_by(self, guard: DriftGuard | None) -> None:
        """Have another guard decide, until the next recalibration."""
        self._settings = replace(self._settings, guard=guard)

    def _read(self) -> None:
        # Taken before the file is read: what changes in between is read again.
        state = self._state_of_file()
        if state == self._state:
            return
        self._state = state
        try:
            manifest = read_recalibrated(self._folder, self._manifest, self._key)
            self._settings = self._of(manifest, ARTIFACT if state is None else RECALIBRATION)
        except (OSError, ValueError) as error:
            self.refused += 1
            reason = " ".join(str(error).split())
            log.warning("a recalibration is not taken up: %s", reason, extra=EACH_TIME)
            return
        self.taken_up += state is not None
        threshold, source = self._settings.score_threshold, self._settings.source
        log.info("the threshold is now %g, of the %s", threshold, source, extra=EACH_TIME)

    def _of(self, manifest: Mapping[str, Any], source: str) -> Settings:
        guard = DriftGuard.of(manifest) if self._guarded else None
        threshold, temperatures = manifest["score_threshold"], temperatures_of(manifest)
        known = "temperatures" in manifest
        return Settings(threshold, "guard" if guard else source, temperatures, guard, known)

    def _state_of_file(self) -> tuple[int, ...] | None:
        """Return what tells one version of the file from the next; None if there is no file."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
