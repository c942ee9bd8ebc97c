"""Evaluation: bits/dim of a test split, and samples from a model."""

PRECISION = "highest"
"""Precision of matrix products while evaluating: float32 proper, not TF32 or bfloat16."""
