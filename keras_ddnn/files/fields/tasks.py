"""What a manifest says of a task: what its answers are, and what they cost."""

from collections.abc import Mapping

from keras_ddnn.files.fields.ranges import AMOUNT, FRACTION, MAX_CLASSES, MAX_WIDTH, POSITIVE
from keras_ddnn.files.shapes import nullable, record, sequence, text

REGRESSION = record(
    {
        "reported": text,
        "quantiles": sequence(FRACTION, 0, MAX_WIDTH),
        "level": nullable(FRACTION),
        "over": POSITIVE,
        "under": POSITIVE,
        "penalty": AMOUNT,
        "ramp": POSITIVE,
        "bound": nullable(POSITIVE),
    }
)
PRICES = record({"prices": sequence(sequence(AMOUNT, 2, MAX_CLASSES + 1), 2, MAX_CLASSES)})
TASKS = {  # what `tasks.known.task_as_json` returns, by the task's name
    "classification": record({"config": record({})}),
    "priced_classes": record({"config": PRICES}),
    "regression": record({"config": REGRESSION}),
}
PLAIN = {"name": "classification", "config": {}}  # of a manifest that names no task


def wrong_of_task(content: Mapping) -> str | None:
    """Say what does not fit the task of a manifest: its outputs, labels or outcomes."""
    task, names = content.get("task", PLAIN), content["class_names"]
    config, numbers = task["config"], task["name"] == "regression"
    if not numbers and len(names) < 2:
        expected = f"a list of 2..{MAX_CLASSES} items"
        return f"class_names: expected {expected}; received '{len(names)} items'"
    outputs = max(1, len(config["quantiles"])) if numbers else len(config.get("prices", names))
    if len(names) != outputs:
        return (
            f"class_names: expected one for each of {outputs} outputs of the task "
            f"{task['name']!r}; received {len(names)}"
        )
    if numbers and content.get("class_values") is not None:
        return "class_values: expected null where answers are numbers; received labels of classes"
    if numbers and "temperatures" in content:
        return "temperatures: expected none where answers are numbers; received those of logits"
    told = "accuracy" if task["name"] == PLAIN["name"] else "cost"
    calibration, plan = content["calibration"], content["plan"] or ()
    outcomes = {f"plan[{k}]": point for k, point in enumerate(plan)}
    if calibration is not None:
        outcomes["calibration.numbers.validation"] = calibration["numbers"]["validation"]
    for path, outcome in outcomes.items():
        if told not in outcome:
            return (
                f"{path}: expected the {told} of the task {task['name']!r}; received an outcome "
                "that is told otherwise"
            )
    return None
