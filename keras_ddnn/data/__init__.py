"""Samples: images and labels as users have them, what networks said of them, and what that costs.

It needs NumPy and what reads files.
"""
