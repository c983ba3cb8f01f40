"""What a recipe says, each in a file: optimizer, learning rate, loss and weights of samples.

It needs TensorFlow.
"""
