"""The device: `python -m keras_ddnn.serve.edge`.

It needs NumPy and LiteRT, but neither TensorFlow nor Keras.
"""
