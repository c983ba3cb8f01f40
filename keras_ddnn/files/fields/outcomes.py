"""What a manifest says of a threshold: where it comes from, and what it does on samples."""

from keras_ddnn.files.fields.ranges import FINITE, FRACTION, NOT_NAN, PAIR, THRESHOLD
from keras_ddnn.files.shapes import integer, mapping, nullable, number, record, text

# What happened on validation data, in shares; `bytes` and `seconds` where prices were known.
OUTCOME = record(
    {
        "local_fraction": FRACTION,
        "accuracy": FRACTION,
        "accuracy_drop": number(-1.0, 1.0),
        "disagreement": FRACTION,
        "bytes": NOT_NAN,
        "seconds": NOT_NAN,
    },
    optional=("bytes", "seconds"),
)
CALIBRATION = record(
    {
        "name": text,
        "score_threshold": THRESHOLD,
        "promise": text,
        "limits": mapping(PAIR),
        "numbers": record(
            {
                "n": integer(0, 1 << 53),
                "options": mapping(nullable(NOT_NAN)),
                "validation": OUTCOME,
            }
        ),
        "prices": mapping(PAIR),
    }
)
OPERATING_POINT = record(
    {
        "score_threshold": FINITE,
        "local_fraction": FRACTION,
        "accuracy": FRACTION,
        "disagreement": FRACTION,
    }
)
