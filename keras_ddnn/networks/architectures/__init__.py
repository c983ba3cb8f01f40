"""Architectures of named networks, beside that of the paper: one image, or one of each camera.

It needs TensorFlow.
"""
