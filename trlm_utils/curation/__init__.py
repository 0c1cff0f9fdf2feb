"""Data curation: sources, one schema for all rows, filters, and mixtures of data sets."""
