"""What a manifest says of a threshold: where it comes from, and what it does on samples."""

from collections.abc import Mapping

from keras_ddnn.files.fields.ranges import AMOUNT, FINITE, FRACTION, NOT_NAN, PAIR, THRESHOLD
from keras_ddnn.files.shapes import Shape, either, integer, mapping, nullable, number, record, text


def _as_told(of_accuracies: Shape, of_costs: Shape) -> Shape:
    """Return the shape of an outcome that tells a mean cost, or else an accuracy."""

    def check(path: str, value: object) -> None:
        told = isinstance(value, Mapping) and "cost" in value
        (of_costs if told else of_accuracies)(path, value)

    return check


PRICES = dict.fromkeys(("bytes", "seconds", "price"), NOT_NAN)  # where these were known
SHARES = {"accuracy": FRACTION, "accuracy_drop": number(-1.0, 1.0), "disagreement": FRACTION}
# What is told of costs of any size, and by how much two answers may differ at most.
COSTS = {"cost": AMOUNT, "cost_increase": FINITE, "disagreement": AMOUNT}
# What happened on validation data, in shares or as mean costs.
OUTCOME = _as_told(
    *(
        record({"local_fraction": FRACTION, **told, **PRICES}, optional=tuple(PRICES))
        for told in (SHARES, COSTS)
    )
)
OPTION = either("a number, or two of each class", NOT_NAN, mapping(PAIR))
CALIBRATION = record(
    {
        "name": text,
        "score_threshold": THRESHOLD,
        "promise": text,
        "limits": mapping(PAIR),
        "numbers": record(
            {
                "n": integer(0, 1 << 53),
                "options": mapping(nullable(OPTION)),
                "validation": OUTCOME,
            }
        ),
        "prices": mapping(PAIR),
    }
)
_POINT = {"score_threshold": FINITE, "local_fraction": FRACTION}
OPERATING_POINT = _as_told(
    *(
        record({**_POINT, name: told[name], "disagreement": told["disagreement"]})
        for name, told in (("accuracy", SHARES), ("cost", COSTS))
    )
)
