"""The images that a device is given, and what a person sees of its work."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np

from keras_ddnn.data.classes import Classes, labels_of
from keras_ddnn.data.datasets import as_split, load_part
from keras_ddnn.data.formats.archives import read_npz
from keras_ddnn.data.formats.folders import images_below, say_passed_over
from keras_ddnn.data.rows.images import chosen_reading, read_groups
from keras_ddnn.data.splits import InputType, Split
from keras_ddnn.files.checks import expect, require_count
from keras_ddnn.files.notices import progress_bar, tell_result
from keras_ddnn.serve.edge.answers import CloudCheck
from keras_ddnn.serve.edge.runtime import EdgeRuntime
from keras_ddnn.serve.edge.telling.metrics import ANSWERS, EdgeMetrics
from keras_ddnn.serve.protocol.causes import DEFERRED
from keras_ddnn.tasks.known import REFUSED, task_of

if TYPE_CHECKING:
    from tqdm import tqdm

# Causes for which it is not known whether there is anybody.
UNREACHED = ("connection", "no-address", "time-out", "no-time", "circuit-open", "no-cloud")
UNKNOWN = "of the cloud's nothing is known"
SAME_MODEL = {None: "the cloud's too", "wrong-model": "and the cloud serves another"}


class Samples(NamedTuple):
    """What a device is given.

    Attributes:
        inputs: uint8 of shape (n, h, w, c), or what else the artefact reads.
        labels: The user's labels or the true numbers (n,); None where they are not known.
        ids: Paths of image files in their folder, or places in the data, from 0; n of them.
    """

    inputs: np.ndarray
    labels: np.ndarray | None
    ids: Sequence[str | int]


def read_images(*source: Any, **reading: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inputs and labels of `read_samples`."""
    return read_samples(*source, **reading)[:2]


def read_samples(
    folder: str | None,
    dataset: str | None,
    manifest: Mapping,
    limit: int | None = None,
    **reading,
) -> Samples:
    """Read images from a folder, or the test data of a dataset.

    For an artefact that reads no images, the test data are `x_test` and `y_test` of a `.npz` file.
    For one that reads several cameras they are those of a dataset, too.

    Args:
        folder: Folder of images; in subfolders named after their classes where those are known.
            None to read a dataset.
        dataset: Name of a dataset, as for `load`.
        manifest: Manifest of the artefact.
        limit: How many to take, from the first; None for all.
        reading: `channels`, `background`, `scale` and `fit` of `load`. Image files are brought to
            the size of the artefact, and what is not given is as its manifest says of training.

    Raises:
        ValueError: If the artefact reads no images and the dataset is no `.npz` file, or several
            cameras and there is a folder; if there are no images, some cannot be read, or a
            subfolder is no class.
    """
    if limit is not None:
        require_count(limit=limit)
    reads = InputType(tuple(manifest["input_shape"]), manifest["input_dtype"])
    if folder is not None and reads.cameras:
        raise ValueError(
            f"the artefact reads {reads.cameras} cameras, and an image file holds one frame: "
            f"expected --dataset NAME or --dataset FILE.npz; received {folder}"
        )
    if not reads.holds_images:
        if folder is not None or not str(dataset).endswith(".npz"):
            raise ValueError(
                f"the artefact reads {reads.dtype} of shape {reads.shape}, no images: expected "
                f"--dataset FILE.npz with x_test and y_test; received {folder or dataset}"
            )
        found, classes = read_npz(Path(dataset)), labels_of(manifest)
        expect("test" in found.inputs, f"{dataset}", "arrays x_test and y_test", "no test data")
        given = found.inputs["test"], found.labels["test"]
        test = as_split(*given, what="test", classes=classes, reads=reads)
        return _first(test, limit)
    reading["image_size"], trained = reads.shape[-3:-1], manifest.get("reading")
    if folder is None:
        _, test, _ = load_part(dataset, ("test",), trained, **reading)
        return _first(test, limit)
    root, passed = Path(folder), Counter()
    expect(root.is_dir(), "--images", "a folder", f"{folder}, which is none")
    files = list(images_below(root, passed))
    if not files:
        raise ValueError(f"expected images in {root}; received none")
    files = files[:limit]
    labels, class_names = None, manifest["class_names"]
    in_classes = task_of(manifest).target_reader is None
    if in_classes and any(file.parent != root for file in files):
        for file in files:
            if file.parent.name not in class_names:
                known = ", ".join(class_names)
                raise ValueError(f"{file}: expected a folder named after a class, {known}")
        numbers = np.array([class_names.index(file.parent.name) for file in files])
        labels = Classes.of_manifest(manifest).decode(numbers)
    reading = chosen_reading(reading, trained)
    ((images, _),) = read_groups([files], root, cached=False, **reading)
    say_passed_over(root, passed)
    return Samples(images, labels, [file.relative_to(root).as_posix() for file in files])


def _first(split: Split, limit: int | None) -> Samples:
    inputs = split.images[:limit]
    return Samples(inputs, split.user_labels[:limit], range(len(inputs)))


class Progress:
    """Shows on a terminal who has answered so far; `with Progress(...) as shown: shown.add(1)`.

    Args:
        total: Number of images.
        metrics: Metrics of the device.
        breaker: Returns the state of its circuit breaker.
    """

    def __init__(self, total: int, metrics: EdgeMetrics, breaker: Callable[[], str]) -> None:
        self._metrics, self._breaker = metrics, breaker
        self._bar: tqdm = progress_bar(total=total, unit="image", leave=False)

    def __enter__(self) -> "Progress":
        return self

    def add(self, count: int) -> None:
        """Count images that are answered."""
        if self._bar.update(count):  # it is drawn a few times a second, and not at all in a file
            numbers = self._metrics.numbers()
            self._bar.set_postfix_str(f"{_counts(numbers)}, circuit breaker {self._breaker()}")

    def __exit__(self, *_: object) -> None:
        self._bar.close()


def show_report(
    runtime: EdgeRuntime,
    outputs: np.ndarray,
    labels: np.ndarray | None,
    stream: TextIO | None = None,
) -> None:
    """Print what a device did, and how good that was where labels are known.

    Args:
        runtime: The device.
        outputs: What the networks that answered have said, (n, ...); see `EdgeAnswer.logits`.
        labels: The user's labels, or the true numbers, (n,); None where they are not known.
        stream: Where it is printed; standard output by default.
    """
    metrics, task = runtime.metrics, runtime.task
    numbers, causes = metrics.numbers(), metrics.causes()
    title = f"{_answered(numbers):,} images"
    facts = _facts(metrics, numbers)
    content = {"images": _answered(numbers), **numbers, "causes": causes}
    said = _counts(numbers)
    if task.refusal is not None:
        facts[REFUSED] = f"{np.sum(task.answers(outputs) == task.refusal):,}"
    if runtime.waiting:
        facts["on disk, to be sent by the next run"] = f"{runtime.waiting:,}"
    if labels is not None:
        costs = task.costs[task.reported](outputs, runtime.classes.encode(labels))
        told = float(task.measure.of(costs.sum(), len(costs)))
        name, is_share = task.measure.title.partition(" (")[0], task.measure.higher_is_better
        shown = f"{told:.2%}" if is_share else f"{told:.4g}"
        facts[name] = shown
        content["measure"], content["value"] = name, told
        said += f"; {name} {shown}"
    print(title, file=stream)
    _print_facts(facts, stream)
    if runtime.guard:
        content["alarms"] = runtime.guard.status()["alarms"]
        print(*content["alarms"] or ["no drift was noticed"], sep="\n", file=stream)
    tell_result(f"{title}: {said}", content, stream)


def show_check(url: str, runtime: EdgeRuntime, found: CloudCheck, asked: int) -> None:
    """Print what a device has found of its cloud, a line a fact.

    Args:
        url: Of the cloud.
        runtime: The device.
        found: What it has found.
        asked: Samples that it was told to ask about; it sends no more at once than it ever does.
    """
    requests, failure = runtime.requests, found.failure
    cause = failure and failure.cause
    facts = {
        "cloud": url,
        "reachable": "no" if cause in UNREACHED else "yes",
        "answer": f"no ({cause}): {failure}" if failure else "yes",
        "artefact": f"{runtime.identity}, {SAME_MODEL.get(cause, UNKNOWN)}",
        "round trip": f"{1000 * found.seconds:.1f} ms",
        "a sample": f"{requests.sample_bytes:,} bytes",
        "a request": f"at most {requests.samples:,} samples, {runtime.max_bytes:,} bytes",
        "this request": f"{found.samples:,} samples, {found.sent_bytes:,} bytes"
        + (f"; --batch asks for {asked:,}, no more go at once" * (found.samples < asked)),
    }
    facts = {name: " ".join(fact.split()) for name, fact in facts.items()}
    _print_facts(facts)
    found_by_scripts = {"cause": cause, "seconds": found.seconds, "sent_bytes": found.sent_bytes}
    tell_result(f"the cloud answers: {facts['answer']}", facts | found_by_scripts)


def _answered(numbers) -> int:
    return sum(numbers[who] for who in ANSWERS)


def _counts(numbers: Mapping[str, Any]) -> str:
    """Return who has answered how many samples; of a device without a spool none is deferred."""
    told = [who for who in ANSWERS if who != DEFERRED or numbers[who]]
    return ", ".join(f"{numbers[who]:,} {who}" for who in told)


def _print_facts(facts: Mapping[str, str], stream: TextIO | None = None) -> None:
    width = max(map(len, facts)) + 2
    for name, fact in facts.items():
        print(f"{name + ':':{width}}{fact}", file=stream)


def _facts(metrics: EdgeMetrics, numbers: Mapping[str, Any]) -> dict[str, str]:
    """Return what a device has counted, in words; what is indented is a part of the fact above."""
    n = max(_answered(numbers), 1)
    shares = {who: f"{numbers[who]:,} ({numbers[who] / n:.1%})" for who in ANSWERS}
    facts = {"answered here": shares["local"], "answered by the cloud": shares["cloud"]}
    for tier, count in metrics.by_tier().items():
        if tier > 1:
            facts[f"  by tier {tier}, which it asked"] = f"{count:,}"
    if numbers["fallback_behind"]:
        facts["  as a tier behind it did not answer"] = f"{numbers['fallback_behind']:,}"
    facts["answered here, as the cloud did not answer"] = shares["fallback"]
    for cause, count in metrics.causes().items():
        facts[f"  because of {cause}"] = f"{count:,}"
    if numbers[DEFERRED]:
        facts["answered here, and sent in the background"] = shares[DEFERRED]
    for source, (threshold, count) in metrics.thresholds().items():
        facts[f"threshold {threshold:.6g} ({source})"] = f"{count:,}"
    sent = numbers["sent_bytes"]
    facts["bytes sent"] = f"{sent:,} ({sent / n:,.0f} an image)"
    facts["memory of this process, at its peak"] = f"{numbers['peak_memory_bytes']:,} bytes"
    facts["files that this device needs"] = f"{numbers['files_bytes']:,} bytes"
    for name in ("p50", "p95", "p99"):
        if name in numbers:
            facts[f"{name} of a call"] = f"{1000 * numbers[name]:.2f} ms"
    return facts
