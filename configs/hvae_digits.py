"""A hierarchical VAE of the 8×8 digits with three layers and top-down inference: two or three minutes on two cores."""

from configs import vae_digits
from vdm.predecessors.config import PredecessorConfig


def get_config() -> PredecessorConfig:
    config = vae_digits.get_config()
    config.model.name = "hvae(layers=3, latents=8)"
    # Without warm-up and free bits, most latents are never used.
    config.objective.warmup_steps = 1000
    config.objective.free_bits = 0.5
    return config
