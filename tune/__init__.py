"""The search over DDNNs and offload heads, by Ray Tune: `python -m tune.search`."""
