"""The cloud service: `python -m keras_ddnn.serve.cloud`.

TensorFlow is loaded when it starts.
"""
