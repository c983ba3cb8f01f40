"""Keras networks: the layers of our own, the network of the paper, and any model cut into tiers.

It needs TensorFlow, as do the rooms behind it.
"""
