"""Export of weights and programs that need only JAX to run: `python -m vdm.export`."""
