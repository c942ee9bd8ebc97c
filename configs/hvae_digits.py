"""A hierarchical VAE of the 8×8 digits, three layers inferred from the top down: two or three minutes on two cores."""

from configs import vae_digits
from vdm.predecessors.config import PredecessorConfig


def get_config() -> PredecessorConfig:
    config = vae_digits.get_config()
    config.model.name = "hvae(layers=3, latents=8)"
    # Without them most latents are never used.
    config.objective.warmup_steps = 1000
    config.objective.free_bits = 0.5
    return config
