"""What compare.py compares: time steps, objectives, samplers, guidances."""
