"""Data: sources, rows of one form, checks on them, mixtures."""
