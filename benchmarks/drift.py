"""What drift does to a saved policy, with and without the drift guard.

    python -m benchmarks.drift RUN/artifact --dataset cifar10

Validation data certify a threshold. Streams of test images, drawn with replacement, are clean at
first and corrupted after the change. Every stream is decided twice, by the calibrated threshold and
by the controller that holds the local fraction; a sample in twenty is audited, with its label and
without. Shares and accuracies are those after the change. Behind the number of alarms is their
median delay, in samples after the change; a false alarm is one before it, or any in clean data.
"""

import argparse
import json
from dataclasses import asdict

import numpy as np
from rich.console import Console
from rich.table import Table

from keras_ddnn.calibration import for_accuracy_drop, for_local_fraction
from keras_ddnn.datasets import DATASETS, load
from keras_ddnn.serve.drift import DriftGuard

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
    options = parser.parse_args()

    from keras_ddnn.artifact import load_policy
    from keras_ddnn.capture import capture

    policy = load_policy(options.artefact)
    splits = load(options.dataset, options.data_dir)

    def answers(images, labels):
        """Return the columns of a table of samples: score, both answers, label."""
        bank = capture(policy.model, images, labels)
        local, cloud = (
            logits.argmax(axis=1) for logits in (bank.edge.local_logits, bank.cloud_logits)
        )
        return bank, np.stack([policy.rule.score(bank.edge), local, cloud, labels])

    val_bank, val = answers(splits.val.images, splits.val.labels)
    if options.local_fraction is None:
        calibration = for_accuracy_drop(val[0], val_bank, options.max_drop, options.delta)
    else:
        calibration = for_local_fraction(val[0], val_bank, options.local_fraction)
    del val_bank  # its features take the room of the next
    record = {"score_threshold": calibration.score_threshold, "calibration": asdict(calibration)}

    def guard(seed, gain):
        return DriftGuard.of(record, audit_share=options.audit_share, gain=gain, seed=seed)

    table = Table(
        *("change", "controller", "local %", "accuracy %", "cloud %", "drop"),
        *(test.replace("_", " ") for test in TESTS),
        "false alarms",
    )
    rows, clean = [], None
    for name, change in CHANGES.items():
        _, changed = answers(change(splits.test.images), splits.test.labels)
        clean = changed if clean is None else clean
        for gain in (0.0, 0.01):
            results = []
            for seed in range(options.streams):
                parts = [
                    part[:, np.random.default_rng([seed, i]).integers(0, part.shape[1], n)]
                    for i, (part, n) in enumerate(
                        ((clean, options.before), (changed, options.after))
                    )
                ]
                stream = np.concatenate(parts, axis=1)
                results.append(watch(guard(seed, gain), stream, options.before))
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
        guard.learn(offloaded[part][drawn], *(array[part][drawn] for array in answers))
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
