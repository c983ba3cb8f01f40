"""What a device sends to its cloud, and when: its questions, and what it keeps until they are sent.

Nothing here runs a network.
"""
