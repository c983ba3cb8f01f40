"""What an offload head learns: the labels of training samples, and the targets made of them.

Heads that need no Keras are here too. It needs NumPy, SciPy and scikit-learn.
"""
