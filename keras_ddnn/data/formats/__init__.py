"""What data sets come in: arrays in files, published files, lists of images.

Each reader returns `Found`: inputs and labels of the splits that are there, and nothing checked.
"""
