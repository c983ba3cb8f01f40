"""Inputs as rows by index, wherever they are: arrays in memory or in files, image files that are
decoded once, batches that are written once. Needs NumPy; nothing is unpickled.
"""
