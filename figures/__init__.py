"""Figures drawn from saved reports; nothing here imports Keras."""
