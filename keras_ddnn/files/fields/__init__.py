"""The fields of a manifest: their types and ranges, in tables, and what they share.

Plain JSON in, an error of one line out.
"""
