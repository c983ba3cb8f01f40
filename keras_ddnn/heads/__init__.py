"""Offload heads: small Keras models that learn which samples are worth sending.

It needs TensorFlow.
"""
