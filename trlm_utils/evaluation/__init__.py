"""Evaluation: held-out questions, published benchmarks, comparison of arms."""
