"""Which samples to send on: a score of what a device knows, and a threshold with its promise.

A rule is written once, for NumPy and for a graph. It needs NumPy and SciPy.
"""
