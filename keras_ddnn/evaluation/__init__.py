"""How good a rule is: curves, intervals, blends, the oracle, diagnoses, bytes and reports.

It reads two costs a sample. It needs NumPy, SciPy and pandas.
"""
