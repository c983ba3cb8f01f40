"""The device at run time: it answers what it can, and asks the cloud about the rest.

It needs NumPy and LiteRT, but neither TensorFlow nor Keras.
"""

import time
from pathlib import Path
from threading import Lock

import numpy as np

from keras_ddnn.data.classes import labels_of
from keras_ddnn.files.checks import require_choice, require_count, require_inputs, require_positive
from keras_ddnn.files.manifest import EDGE_GRAPHS, artifact_of, inputs_name, model_id, read_manifest
from keras_ddnn.files.signature import Key
from keras_ddnn.serve.drift.audit import audited_numbers, differ_and_lost
from keras_ddnn.serve.drift.guard import DriftGuard
from keras_ddnn.serve.edge.answers import CloudCheck, EdgeAnswer
from keras_ddnn.serve.edge.device_graph import bytes_of_files, graph_of, open_graph
from keras_ddnn.serve.edge.sending.background import MAX_BYTES as SPOOL_BYTES
from keras_ddnn.serve.edge.sending.background import questions_of, require_background
from keras_ddnn.serve.edge.sending.budget import SendingBudget
from keras_ddnn.serve.edge.sending.requests import RequestWriter
from keras_ddnn.serve.edge.settings import CurrentSettings
from keras_ddnn.serve.edge.telling.metrics import EdgeMetrics
from keras_ddnn.serve.protocol.causes import Unanswered
from keras_ddnn.serve.protocol.limits import MAX_BYTES, MAX_SAMPLES
from keras_ddnn.serve.protocol.link import CloudLink
from keras_ddnn.tasks.known import task_of

BATCH = 32  # samples at a time through the graph, and the most in a request


class EdgeRuntime:
    """Runs the device's part of an artefact; threads may share it.

    Args:
        folder: The artefact, or the run that it belongs to.
        cloud_url: "http://host:port" of the cloud service; None if there is none, and the local
            network answers everything.
        graph: A key of `EDGE_GRAPHS`. With "float" features are sent as float16, unless a
            bottleneck was trained to send codes; with "int8" always as codes. What a device sends
            as it has read it, as in a chain, has no codes.
        deadline_s: Seconds from the call of `predict` to its answer; what the cloud has not
            answered by then, the local network has.
        token: Bearer token of the service.
        ca: A PEM file; the service's certificate must be signed by one of these alone. None for
            those that the system trusts.
        share_images: Whether to send the images too, for the service's page to show.
        failures: Requests in a row without an answer after which the cloud is left alone.
        rest_s: For how long, in seconds, before it is tried again.
        guarded: Whether a drift guard decides, see `DriftGuard.of`. What it draws for audit is sent
            with what is offloaded, and waits for the cloud as long; a local answer stands. Of
            costs it needs a bound.
        max_bytes: Length of the longest request body that the service takes. What would be longer
            is sent in several requests.
        max_samples: The most that the service takes of one request.
        budget: How much may be sent in a minute, beside what `check` sends; None for no limit. What
            would be more is answered here, with the cause "over-budget"; from a spool it is sent
            later.
        verify_key: The public key that the artefact must be signed by, and recalibrations of it;
            see `read_manifest`.
        spool: A folder. If given, every answer is the local network's, at once, and what is
            offloaded is kept there until it has been sent with its image in the background, also
            by a later process. The artefact must read images, and the cloud be told to keep them;
            its page shows the latest.
        spool_bytes: Of that folder at most; what is more drops its oldest samples, which
            `ddnn_edge_dropped_samples` counts.

    Attributes:
        score_threshold: Samples with a score at or above it are offloaded, unless guarded. It may
            be set while the device runs; None returns to that of the artefact, or of its
            recalibration.
        guard: The drift guard, or None.
        current: Reads recalibrations; a new one is taken up by the next call of `predict`.
        manifest: Manifest of the artefact, as it was saved.
        task: What its answers are: it makes them of the outputs, here or of the cloud.
        classes: The labels it answers in, `Classes`, or `Numbers`.
        identity: Identity of the artefact, see `model_id`.
        metrics: What has happened so far.
        requests: Writes them; it knows how long they are.
        refusal: The latest `Unanswered` for a reason that will not go away, while the cloud has
            never answered; None otherwise.

    Raises:
        ValueError: If a file of the artefact is missing or damaged, it holds no such graph or
            nothing that a guard needs, an argument is out of range, or a request of one sample is
            longer than `max_bytes` or than the budget.
    """

    def __init__(
        self,
        folder,
        cloud_url: str | None = None,
        *,
        graph: str = "float",
        deadline_s: float = 0.25,
        token: str | None = None,
        ca: Path | str | None = None,
        share_images: bool = False,
        failures: int = 3,
        rest_s: float = 1.0,
        guarded: bool = False,
        max_bytes: int = MAX_BYTES,
        max_samples: int = MAX_SAMPLES,
        budget: SendingBudget | None = None,
        verify_key: Key | None = None,
        spool: Path | str | None = None,
        spool_bytes: int = SPOOL_BYTES,
    ):
        require_choice("graph", graph, EDGE_GRAPHS)
        require_positive(deadline_s=deadline_s, rest_s=rest_s)
        folder = artifact_of(folder)
        self.manifest = read_manifest(folder, verify_key)
        self.identity = model_id(folder)
        self.task, self.classes = task_of(self.manifest), labels_of(self.manifest)
        if spool is not None:
            require_background(self.manifest, cloud_url, guarded)
        self.current = CurrentSettings(folder, self.manifest, verify_key, guarded=guarded)
        path = graph_of(folder, self.manifest, graph)
        self._sent = self.manifest["features"]
        self._inputs_name = inputs_name(self.manifest["input_dtype"])
        self.requests = RequestWriter(
            self.manifest,
            self.identity,
            in_codes=self._sent["quantisation"] is not None
            and (graph == "int8" or self._sent["lossless"]),
            share_images=share_images or spool is not None,
            max_bytes=max_bytes,
            max_samples=max_samples if spool is None else min(max_samples, BATCH),
            keeps=spool is not None,
            budget=budget,
        )
        device = open_graph(path, self.manifest)
        self._run = device.get_signature_runner()
        self._running = Lock()
        self.metrics = EdgeMetrics()
        self.metrics.files.set(bytes_of_files(path))
        self.metrics.watch(self.current)
        sent = self.metrics.count_sent
        link = cloud_url and CloudLink(cloud_url, token, failures, rest_s, sent, ca=ca)
        kept = spool, spool_bytes, self.metrics.registry
        self._questions = questions_of(self.requests, link, budget, *kept)
        self.deadline_s, self.max_bytes = deadline_s, max_bytes

    def predict(
        self,
        images: np.ndarray,
        labels: np.ndarray | None = None,
        *,
        deadline: float | None = None,
        score_threshold: float | None = None,
    ) -> EdgeAnswer:
        """Answer about images or other inputs, n at least 1; no fault of the network is raised.

        Args:
            images: uint8 (n, h, w, c), or what else the artefact reads: `input_dtype` and
                `input_shape` of its manifest.
            labels: For the audit alone, where they are known: the user's labels, of shape (n,);
                where not, a negative number that is no class, an empty string or None. Where
                answers are numbers the true ones, NaN or None where they are unknown.
            deadline: For the answer, by `time.monotonic`, in place of `deadline_s` from now.
            score_threshold: For this call alone; by default the attribute of this name.

        Raises:
            ValueError: If the images are of another shape or type than the artefact's, there is
                not one label an image, training did not have a label, or there is a threshold
                beside a guard.
        """
        begin = time.monotonic()
        require_inputs(images, self.manifest["input_shape"], self.manifest["input_dtype"])
        numbers = audited_numbers(self.classes, labels, len(images))
        # One for all of the call, whatever changes meanwhile.
        settings = self.current.now().with_threshold(score_threshold, "call")
        deadline = begin + self.deadline_s if deadline is None else deadline
        rows = [slice(start, start + BATCH) for start in range(0, len(images), BATCH)]
        parts = [self._predict(images[part], numbers[part], deadline, settings) for part in rows]
        logits, *columns, temperatures = map(np.concatenate, zip(*parts))
        scores, offloaded, causes, tiers, failed = columns
        classes = self.classes.decode(self.task.answers(logits), self.task.refusal)
        seconds = time.monotonic() - begin
        causes = causes.astype(str)
        told = settings, temperatures if "probabilities" in self.task.gives else None
        columns = classes, scores, offloaded, causes
        answer = EdgeAnswer(*columns, seconds, logits, tiers, failed, *told)
        self.metrics.count(answer, self.breaker)
        return answer

    def check(self, samples: int = 1) -> CloudCheck:
        """Ask the cloud once about samples of zeros, and return what came of it; it is no answer
        that counts. No fault of the network is raised.

        Args:
            samples: How many, at least 1; no more are sent than `predict` sends at once.
        """
        require_count(samples=samples)
        samples = min(samples, BATCH, self.requests.samples)
        headers, body = self.requests.blank(samples)
        begin, failure = time.monotonic(), None
        try:
            self._questions.ask(headers, body, samples, begin + self.deadline_s)
        except Unanswered as error:
            failure = error
        return CloudCheck(failure, time.monotonic() - begin, samples, len(body))

    @property
    def score_threshold(self) -> float:
        """The threshold in use; see the attributes of the class."""
        return self.current.now().score_threshold

    @score_threshold.setter
    def score_threshold(self, score_threshold: float | None) -> None:
        self.current.set_threshold(score_threshold)

    @property
    def guard(self) -> DriftGuard | None:
        """The drift guard; a recalibration gets a new one."""
        return self.current.now().guard

    @guard.setter
    def guard(self, guard: DriftGuard | None) -> None:
        self.current.guard_by(guard)

    @property
    def breaker(self) -> str:
        """State of the circuit breaker: "closed" while all is well, "open" or "half-open"."""
        return self._questions.breaker

    @property
    def refusal(self) -> Unanswered | None:
        """Why the cloud refuses this device; see the attributes of the class."""
        return self._questions.refusal

    @property
    def waiting(self) -> int:
        """Samples that are on disk, to be sent in the background; 0 without a spool."""
        return self._questions.waiting

    def flush(self) -> bool:
        """Send what waits in the background, until all has arrived or an attempt fails.

        Returns:
            Whether nothing is left.
        """
        return self._questions.deliver()

    def require_welcome(self) -> None:
        """Raise ValueError, in one line, where there is a `refusal`."""
        if error := self.refusal:
            raise ValueError(f"the cloud refuses this device ({error.cause}): {error}")

    def close(self) -> None:
        """Close the connections, and log how many samples fell back by cause."""
        self._questions.close(self.metrics.causes())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _predict(self, images, labels, deadline, settings):
        outputs = self._infer(images)
        sends = images if self._sent["are_inputs"] else outputs["features"]
        scores, local = outputs["score"], outputs["local_logits"]
        offloaded, drawn = settings.decide(scores)
        self._questions.answered_here(int(np.sum(~offloaded)))
        n = len(images)
        logits, tiers = local.copy(), np.zeros(n, int)  # of the cloud where it has answered
        failed, answered, causes = np.zeros(n, bool), np.zeros(n, bool), np.full(n, "", object)
        temperatures = np.full(n, settings.temperatures["local"], np.float32)
        sent = np.flatnonzero(offloaded | drawn)
        for part, said in self._questions.in_parts(sends[sent], images[sent], deadline):
            rows = sent[part]
            if isinstance(said, Unanswered):
                causes[rows[offloaded[rows]]] = said.cause
                continue
            logits[rows], answered[rows] = said.logits, True
            tiers[rows], failed[rows] = said.tiers + 1, said.fallback
            # Of tiers that the artefact does not know, the service alone can say them.
            known = np.where(said.tiers == 0, settings.temperatures["cloud"], said.temperatures)
            temperatures[rows[offloaded[rows]]] = known[offloaded[rows]]
        if (learnt := drawn & answered).any():
            said = (array[learnt] for array in (local, logits, labels))
            known = self.classes.is_known(labels[learnt])
            settings.guard.learn(offloaded[learnt], *differ_and_lost(self.task, *said, known))
        # What was sent for an audit alone is answered here.
        logits = np.where(offloaded[:, None], logits, local)
        told = tiers * offloaded, failed & offloaded, temperatures
        return logits, scores, offloaded, causes, *told

    def _infer(self, images):
        with self._running:
            # The arrays belong to the interpreter, and change with its next run.
            outputs = self._run(**{self._inputs_name: images})
            return {name: array.copy() for name, array in outputs.items()}
