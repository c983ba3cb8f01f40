"""What a device notices by itself: shifts of its scores, and local answers that cost too much.

It needs NumPy alone.
"""
