"""Compare offload rules on the outputs of any two classifiers, and keep the best as a small file.

OUTPUTS.npz holds `local_logits` and `cloud_logits` (n, num_classes), `labels` (n,), and optionally
`split`, n words "val" or "test". No sample may have trained either classifier.

The first half of "val" teaches the learned rule and chooses among rules, the second half chooses
thresholds, so that the certificate tests a rule that was fixed before. "test" is only reported.
"""

import argparse
import sys
import zipfile
from pathlib import Path

from keras_ddnn.files.extras import extras_of_a_command

with extras_of_a_command():
    import numpy as np
    import pandas as pd

    from keras_ddnn.data.bank import Bank
    from keras_ddnn.evaluation.report import Report
    from keras_ddnn.files.checks import require_fraction, require_seed
    from keras_ddnn.files.notices import (
        CommandParser,
        add_forms,
        notice,
        said_as,
        tell_error,
        tell_result,
    )
    from keras_ddnn.labels.compare_outputs import WORDS, Outcome, Parts, compare, split_parts
    from keras_ddnn.labels.rule_file import LOGIT_HEAD, SavedRule
    from keras_ddnn.rules.confidence import CONFIDENCE_RULES
    from keras_ddnn.tasks.arrays import require_rows

NEEDED = ("local_logits", "cloud_logits", "labels")
SPLIT = "split"
RULE_FILE = "rule.json"
REPORT = "report"
BEST = "best"


def main(arguments: list[str] | None = None) -> int:
    """Print what is found and write it; return 2 after one line if the input is bad."""
    options = _parser().parse_args(arguments)
    with said_as(options):
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    try:
        _check(options)
        bank, split = read_outputs(options.outputs)
        parts = split_parts(bank, split, options.seed)
        if options.output is not None:
            _prepare(options.output)
        outcome = compare(
            parts,
            dataset=options.outputs.stem,
            rule=None if options.rule == BEST else options.rule,
            local_fraction=options.local_fraction,
            max_drop=options.max_drop,
            delta=options.delta,
            seed=options.seed,
        )
        _print(outcome, parts)
        if options.output is not None:
            rule = SavedRule(
                outcome.rules[outcome.rule],
                outcome.calibrations[options.threshold],
                bank.cloud_logits.shape[1],
            )
            _write(rule, outcome.report, options.output)
        _say_result(outcome, options)
    except (ValueError, OSError) as error:
        tell_error(error)
        return 2
    return 0


def read_outputs(path: Path) -> tuple[Bank, np.ndarray | None]:
    """Read the outputs of two classifiers.

    Args:
        path: An `.npz`, see the top of this file.

    Returns:
        The bank, and the words of `split`, str (n,), or None if there are none.

    Raises:
        ValueError: If the file is no `.npz` of plain arrays, or an array is missing or bad.
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        archive = zipfile.is_zipfile(file)
    if not archive:
        raise ValueError(
            f"{path}: expected an .npz of np.savez; received a file of another kind; write "
            f"np.savez(path, {', '.join(f'{name}=...' for name in NEEDED)})"
        )
    try:
        with np.load(path, allow_pickle=False) as content:
            names = content.files
            if missing := [name for name in NEEDED if name not in names]:
                raise ValueError(
                    f"expected arrays {', '.join(missing)} too; received "
                    f"{', '.join(names) or 'none'}"
                )
            arrays = {name: _plain(content, name) for name in (*NEEDED, SPLIT) if name in names}
        local, cloud, labels = (arrays[name] for name in NEEDED)
        bank = Bank.from_outputs({"local": local, "cloud": cloud}, labels)
        words = _words(arrays[SPLIT], len(bank)) if SPLIT in arrays else None
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}") from error
    if unread := [name for name in names if name not in arrays]:
        notice(f"{path.name}: arrays that nobody reads are left out: {', '.join(unread)}")
    return bank, words


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m keras_ddnn.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("outputs", type=Path, metavar="OUTPUTS.npz", help="logits of both classifiers, and labels")
    add("--local-fraction", type=float, default=0.5, help="share to keep local (%(default)s)")
    add("--max-drop", type=float, default=0.01, help="accuracy drop to certify (%(default)s)")
    add("--delta", type=float, default=0.1, help="probability of a larger drop (%(default)s)")
    add(
        "--rule",
        choices=[BEST, *CONFIDENCE_RULES, LOGIT_HEAD],
        default=BEST,
        help="the rule to keep; by default the one that the diagnosis recommends",
    )
    add(
        "--threshold",
        choices=["local_fraction", "accuracy_drop"],
        default="local_fraction",
        help="which of the two thresholds rule.json decides by (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of the halves that are drawn (%(default)s)")
    add("--output", type=Path, metavar="FOLDER", help=f"where to write {RULE_FILE} and {REPORT}/")
    add_forms(parser)
    return parser


def _check(options: argparse.Namespace) -> None:
    require_fraction("--local-fraction", options.local_fraction)
    require_seed("--seed", options.seed)
    for name in ("max_drop", "delta"):
        value = getattr(options, name)
        # A comparison with NaN is false, so NaN is refused too.
        if not 0.0 < value < 1.0:
            raise ValueError(f"--{name.replace('_', '-')} must lie in (0, 1); received {value!r}")


def _plain(content: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return content[name]
    except Exception as error:  # zip and array formats fail in a dozen ways
        raise ValueError(
            f"{name}: expected a plain array; received Python objects or a damaged file; save "
            f"np.asarray({name}) of one type of numbers, or of words ({error})"
        ) from error


def _words(split: np.ndarray, n: int) -> np.ndarray:
    if split.ndim != 1 or split.dtype.kind not in "US":
        raise ValueError(
            f"{SPLIT}: expected words of shape ({n},), each 'val' or 'test'; received "
            f"{split.dtype} of shape {split.shape}"
        )
    require_rows(SPLIT, len(split), n)
    if split.dtype.kind == "S":
        split = np.char.decode(split, "utf-8", "replace")
    if others := sorted({*split.tolist()} - {*WORDS}):
        raise ValueError(
            f"{SPLIT}: expected 'val' or 'test' in each row; received {others[0]!r} in "
            f"{np.count_nonzero(split == others[0]):,} rows and {len(others)} other words in all; "
            "leave out the samples that trained a classifier"
        )
    return split


def _prepare(output: Path) -> None:
    """Make the folder, before anything is computed; refuse one that holds another report."""
    if (output / REPORT).exists() and not (output / RULE_FILE).exists():
        raise ValueError(
            f"{output}: expected a new folder, or one of this command; received one with another "
            f"{REPORT}/; choose another --output"
        )
    output.mkdir(parents=True, exist_ok=True)


def _print(outcome: Outcome, parts: Parts) -> None:
    facts = outcome.report.facts
    print(
        f"test: {len(parts.test):,} samples, local {facts['local_accuracy']:.2%} and cloud "
        f"{facts['cloud_accuracy']:.2%} right; val: {len(parts.first):,} samples teach "
        f"{LOGIT_HEAD} and choose the rule, {len(parts.second):,} others the thresholds"
    )
    print(f"\nfor a local fraction of {facts['local_fraction']:.1%}, on test:")
    print(_text(outcome.report.table))
    print(f"\ndiagnosis: {outcome.findings.advice}; headroom {outcome.findings.headroom} points")
    print(f"rule: {outcome.rule}")
    for name, title in (("local_fraction", "threshold"), ("accuracy_drop", "certificate")):
        calibration = outcome.calibrations[name]
        said = calibration.describe(outcome.realised[name])
        print(f"{title}: offload from a score of {calibration.score_threshold:.6g}; {said}")


def _say_result(outcome: Outcome, options: argparse.Namespace) -> None:
    threshold = outcome.calibrations[options.threshold].score_threshold
    content = {
        "rule": outcome.rule,
        "score_threshold": threshold,
        "threshold": options.threshold,
        "output": options.output,
        "report": outcome.report.facts,
        "rules": outcome.report.table.to_dict("records"),
    }
    tell_result(f"use: {outcome.rule}, offload from a score of {threshold:.6g}", content)


def _text(table: pd.DataFrame) -> str:
    lines = [f"{'rule':<10}  AUDC % (95% interval)    APGR   local %  accuracy %"]
    for row in table.to_dict("records"):
        audc, low, high = (100 * row[name] for name in ("audc", "audc_low", "audc_high"))
        interval = f"{audc:.2f} ({low:.2f} … {high:.2f})"
        lines.append(
            f"{row['rule']:<10}  {interval:<21}  {row['apgr']:>6.3f}  "
            f"{100 * row['realised_local_fraction']:>8.1f}  {100 * row['accuracy']:>10.2f}"
        )
    return "\n".join(lines)


def _write(rule: SavedRule, report: Report, output: Path) -> None:
    rule.save(output / RULE_FILE)
    report.save(output / REPORT)
    print(
        f"{output / RULE_FILE}: keras_ddnn.load_rule reads it; it decides by its threshold of "
        f"{rule.calibration.name}"
    )
    print(f"{output / REPORT}: table and curves; python -m figures --results {output / REPORT}")


if __name__ == "__main__":
    sys.exit(main())
