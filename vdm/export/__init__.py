"""Programs and weights that need JAX alone: `python -m vdm.export`."""
