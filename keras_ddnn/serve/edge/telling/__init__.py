"""What people and programs are told of a device's work: counters, reports, predictions, its speed.

Nothing here decides.
"""
