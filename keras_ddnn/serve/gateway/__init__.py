"""The gateway of several cameras: `python -m keras_ddnn.serve.gateway`.

It gathers the frames of a sample by its id, and answers once; no TensorFlow.
"""
