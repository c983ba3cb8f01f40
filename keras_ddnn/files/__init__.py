"""What is written and read back: whole files, hashes, signatures, manifests; checks of arguments.

Nothing here knows of networks. It needs NumPy alone.
"""
