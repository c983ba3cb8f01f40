"""What an answer is: what it costs, given the truth.

Lower is better everywhere. It needs NumPy alone.
"""
