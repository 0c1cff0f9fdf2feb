"""Evaluation: held-out questions, published benchmarks, arms side by side."""
