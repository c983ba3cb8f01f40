"""What an offload head learns: who judges the training samples, and the targets made of it.

Heads that need no Keras are here too. It needs NumPy, SciPy and scikit-learn.
"""
