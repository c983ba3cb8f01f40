"""The search over DDNNs and offload heads, by Ray Tune: `python -m tune.search`."""

import os

# Ray and TensorFlow read these when they are imported; whatever the user has set stays.
for _name, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the bars of `report` take the place of Tune's tables
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the records take the place of Tune's files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the search; --resume goes on with it
    "TF_CPP_MIN_LOG_LEVEL": "3",
}.items():
    os.environ.setdefault(_name, _value)
