"""The figures of the paper, drawn from what `python -m tune.paper` has kept."""
