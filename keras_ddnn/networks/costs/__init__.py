"""What a network costs to run and to keep: multiply-adds, weights, the largest maps.

It needs TensorFlow.
"""
