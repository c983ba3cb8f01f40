"""Training of a network with several exits, and the capture of what it says.

It needs TensorFlow.
"""
