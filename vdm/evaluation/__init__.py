"""Evaluation: bits/dim of a test split, and samples from a model."""
