"""Thin module behind the course on tiny reasoning language models."""

__version__ = "0.1.0"
