"""Networks that are known by a name."""
