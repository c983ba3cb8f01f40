"""What drift does to a saved policy, with and without the drift guard.

    python -m benchmarks.drift RUN/artifact --dataset cifar10

Validation data certify a threshold. Streams of test images, drawn with replacement, are clean at
first and corrupted after the change. Every stream is decided twice, by the calibrated threshold and
by the controller that holds the local fraction; a sample in twenty is audited, with its label and
without. Shares and accuracies are those after the change. Behind the number of alarms is their
median delay, in samples after the change; a false alarm is one before it, or any in clean data.

    python -m benchmarks.drift RUN/artifact --draws 300 --validation 200 --local-fraction 0.4

How often does a guard alarm although nothing has changed? In every draw, validation data and a
clean stream are drawn with replacement from the test images, which stand for all data, so that
there is no drift; a threshold and a guard are made of the former, and watch the latter. The promise
is a share of at most delta with any alarm.
"""

import argparse
import json
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.data.datasets import DATASETS, load
from keras_ddnn.rules.calibration import for_accuracy_drop, for_local_fraction
from keras_ddnn.serve.drift.guard import DriftGuard

BATCH = 32


def noise(images):
    """Add normal noise with a standard deviation of a tenth of the range."""
    added = np.random.default_rng(0).normal(0.0, 25.5, images.shape)
    return (images + added).clip(0, 255).astype(np.uint8)


def blur(images):
    """Take the mean of 3×3 pixels."""
    height, width = images.shape[1:3]
    padded = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifts = [padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return (sum(shifts) / 9).astype(np.uint8)


def darkening(images):
    """Keep a third of the light."""
    return images // 3


TESTS = {
    "alarms_of_scores": lambda guard: guard.shift.status(),
    "alarms_of_drop": lambda guard: guard.audit.drop.status(),
    "alarms_of_disagreement": lambda guard: guard.audit.disagreement.status(),
}
GAINS = (0.0, 0.01)
CHANGES = {"none": lambda images: images, "noise": noise, "blur": blur, "darkening": darkening}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artefact", help="a folder of save_policy")
    parser.add_argument("--dataset", default="cifar10", help=f"{', '.join(DATASETS)}, or a file")
    parser.add_argument("--data-dir")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--local-fraction", type=float, help="instead of the certified one")
    parser.add_argument("--audit-share", type=float, default=0.05)
    parser.add_argument("--before", type=int, default=10_000, help="clean samples of a stream")
    parser.add_argument("--after", type=int, default=20_000, help="samples after the change")
    parser.add_argument("--streams", type=int, default=5)
    parser.add_argument("--draws", type=int, default=0, help="count false alarms over so many")
    parser.add_argument("--validation", type=int, default=200, help="validation samples of a draw")
    options = parser.parse_args()

    from keras_ddnn.deploy.artifact import load_policy
    from keras_ddnn.training.capture import capture

    policy = load_policy(options.artefact)
    splits = load(options.dataset, options.data_dir)

    def answers(images, labels):
        """Return the columns of a table of samples: score, both answers, label."""
        bank = capture(policy.model, images, labels)
        local, cloud = (logits.argmax(axis=1) for logits in (bank.edge.outputs, bank.cloud_logits))
        return bank, np.stack([policy.rule.score(bank.edge), local, cloud, labels])

    def calibrated(scores, bank):
        if options.local_fraction is None:
            return for_accuracy_drop(scores, bank, options.max_drop, options.delta)
        return for_local_fraction(scores, bank, options.local_fraction)

    def guard(calibration, seed, gain):
        chosen = {"delta": options.delta, "audit_share": options.audit_share, "gain": gain}
        threshold = calibration.score_threshold
        record = {"score_threshold": threshold, "calibration": asdict(calibration)}
        return DriftGuard.of(record, **chosen, seed=seed)

    if options.draws:
        count_false_alarms(
            *answers(splits.test.images, splits.test.labels), options, calibrated, guard
        )
        return
    val_bank, val = answers(splits.val.images, splits.val.labels)
    calibration = calibrated(val[0], val_bank)
    del val_bank  # its features take the room of the next

    table = Table(
        *("change", "controller", "local %", "accuracy %", "cloud %", "drop"),
        *(test.replace("_", " ") for test in TESTS),
        "false alarms",
    )
    rows, clean = [], None
    for name, change in CHANGES.items():
        _, changed = answers(change(splits.test.images), splits.test.labels)
        clean = changed if clean is None else clean
        for gain in GAINS:
            results = []
            for seed in range(options.streams):
                parts = [
                    part[:, np.random.default_rng([seed, i]).integers(0, part.shape[1], n)]
                    for i, (part, n) in enumerate(
                        ((clean, options.before), (changed, options.after))
                    )
                ]
                stream = np.concatenate(parts, axis=1)
                results.append(watch(guard(calibration, seed, gain), stream, options.before))
            row = {"change": name, "controller": bool(gain)} | summary(results, name == "none")
            rows.append(row)
            table.add_row(
                name,
                "yes" if gain else "no",
                *(f"{100 * row[what]:.1f}" for what in ("local", "accuracy", "cloud")),
                f"{100 * row['drop']:.2f}",
                *(
                    f"{row[test]['alarms']} of {options.streams} ({row[test]['delay']})"
                    for test in TESTS
                ),
                str(row["false_alarms"]),
            )
    console = Console(width=130)
    console.print(calibration.promise)
    console.print(table)
    settings = {what: getattr(options, what) for what in ("audit_share", "before", "streams")}
    print(json.dumps({"validation": calibration.numbers["validation"], **settings, "drift": rows}))


def watch(guard, stream, before) -> dict:
    """Send a stream (4, n) through a guard; return means after the change, and when it alarmed."""
    scores, *answers = stream
    offloaded = np.empty(len(scores), bool)
    alarms = dict.fromkeys(TESTS)
    for start in range(0, len(scores), BATCH):
        part = slice(start, start + BATCH)
        offloaded[part], drawn = guard.decide(scores[part])
        here, there, truth = (array[part][drawn] for array in answers)
        lost = 1.0 * (there == truth) - (here == truth)
        guard.learn(offloaded[part][drawn], here != there, lost)
        for name, test in TESTS.items():
            if alarms[name] is None and test(guard)["alarm_at"] is not None:
                alarms[name] = min(start + BATCH, len(scores)) - before
    local, cloud, labels = (array[before:] for array in answers)
    offloaded = offloaded[before:]
    means = {
        "local": np.mean(~offloaded),
        "accuracy": np.mean(np.where(offloaded, cloud, local) == labels),
        "cloud": np.mean(cloud == labels),
    }
    return means | {"drop": means["cloud"] - means["accuracy"]} | alarms


def count_false_alarms(bank, columns, options, calibrated, guard) -> None:
    """Print how many guards of small validation samples alarm on streams of the same data.

    Args:
        bank: All data.
        columns: Scores, both answers and labels, of shape (4, n).
        options: Options of the command line.
        calibrated: (scores, Bank) -> Calibration.
        guard: (Calibration, seed, gain) -> DriftGuard.
    """
    alarms = {gain: dict.fromkeys((*TESTS, "any"), 0) for gain in GAINS}
    shares = []
    for draw in range(options.draws):
        rng = np.random.default_rng([draw, 3])
        rows = rng.integers(0, len(bank), options.validation)
        stream = columns[:, rng.integers(0, len(bank), options.before + options.after)]
        calibration = calibrated(columns[0, rows], bank.rows(rows))
        shares.append(calibration.numbers["validation"]["local_fraction"])
        for gain, counts in alarms.items():
            result = watch(guard(calibration, draw, gain), stream, 0)
            found = [name for name in TESTS if result[name] is not None]
            for name in found + ["any"] * bool(found):
                counts[name] += 1
    table = Table("controller", *(name.replace("_", " ") for name in alarms[0.0]))
    for gain, counts in alarms.items():
        table.add_row("yes" if gain else "no", *map(str, counts.values()))
    Console(width=130).print(
        f"{options.draws} draws of {options.validation:,} validation samples, of which "
        f"{np.mean(shares):.1%} stay local; {stream.shape[1]:,} samples without drift each; "
        f"promised: at most {options.delta:.0%} with any alarm",
        table,
    )
    names = ("draws", "validation", "local_fraction", "max_drop", "delta", "audit_share")
    rows = [{"controller": bool(gain)} | counts for gain, counts in alarms.items()]
    settings = {name: getattr(options, name) for name in names}
    print(json.dumps(settings | {"stream": stream.shape[1], "alarms": rows}))


def summary(results, unchanged) -> dict:
    """Return means over streams, and of each test the true alarms and their median delay."""
    row = {
        what: float(np.mean([result[what] for result in results]))
        for what in ("local", "accuracy", "cloud", "drop")
    }
    false = 0
    for name in TESTS:
        alarms = [result[name] for result in results if result[name] is not None]
        delays = [] if unchanged else [delay for delay in alarms if delay > 0]
        false += len(alarms) - len(delays)
        row[name] = {"alarms": len(delays), "delay": int(np.median(delays)) if delays else None}
    return row | {"false_alarms": false}


if __name__ == "__main__":
    main()
