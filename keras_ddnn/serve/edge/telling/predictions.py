"""What a device answers to each sample, as lines of text: CSV or JSON."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from keras_ddnn.serve.edge.answers import EdgeAnswer
from keras_ddnn.tasks.known import in_words
from keras_ddnn.tasks.task import Task

Format = Literal["csv", "jsonl"]
# id           the path of an image file in its folder, or the place in a data set, from 0
# class        the answer: the user's label, or a number; empty for no answer
# name         the answer in words: the name of the class
# probability  of the class of the answer, calibrated; empty where there is none
# score        of the offload rule, by which the threshold decides
# answered_by  "local", "cloud", or "tier 2" and so on for one behind the cloud
# why          "below threshold", "threshold reached", the cause of a fallback, or "deferred"
#              where the sample is sent in the background and nobody waits
COLUMNS = ("id", "class", "name", "probability", "score", "answered_by", "why")
BELOW, REACHED, BEHIND = "below threshold", "threshold reached", "a tier behind did not answer"


def rows_of(
    answer: EdgeAnswer, ids: Sequence[str | int], task: Task, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield what is told of each of n samples, by the names of `COLUMNS`; plain JSON.

    Args:
        answer: Of the n samples.
        ids: Of the samples, n.
        task: Of the artefact.
        names: Of its outputs.
    """
    words = in_words(task, answer.logits, names)
    probabilities: Sequence[float | None] = [None] * len(words)
    if answer.temperatures is not None:
        chosen = task.answers(answer.logits)
        answered = np.minimum(chosen, answer.probabilities.shape[1] - 1)
        found = np.take_along_axis(answer.probabilities, answered[:, None], axis=1)[:, 0].tolist()
        probabilities = [
            None if number == task.refusal else p for number, p in zip(chosen.tolist(), found)
        ]
    columns = (
        ids,
        answer.classes.tolist(),
        words,
        probabilities,
        [score if np.isfinite(score) else None for score in answer.scores.tolist()],
        map(_tier, answer.tiers.tolist()),
        _reasons(answer),
    )
    for values in zip(*columns, strict=True):
        yield dict(zip(COLUMNS, values))


def as_text(rows: Sequence[Mapping[str, Any]], form: Format, *, header: bool) -> str:
    """Return rows as CSV (RFC 4180) or as JSON, a line each.

    Args:
        rows: Of `rows_of`.
        form: "csv" or "jsonl".
        header: Whether CSV begins with the names of the columns.
    """
    if form == "jsonl":
        return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tier(tier: int) -> str:
    return ("local", "cloud")[tier] if tier < 2 else f"tier {tier}"


def _reasons(answer: EdgeAnswer) -> Iterator[str]:
    told = zip(answer.offloaded.tolist(), answer.causes.tolist(), answer.fallback_behind.tolist())
    for offloaded, cause, behind in told:
        yield cause or (BEHIND if behind else REACHED if offloaded else BELOW)
