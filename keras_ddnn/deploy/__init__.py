"""What runs in the end: a policy, its graphs for two machines, and the folder that holds them.

It needs TensorFlow.
"""
