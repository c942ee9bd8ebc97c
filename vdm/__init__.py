"""Variational diffusion models in JAX: schedules, bounds, samplers and training, each checked against a closed form."""
