"""What device and cloud say to each other, and the line between them.

It needs neither TensorFlow nor SciPy.
"""
