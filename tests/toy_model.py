"""A model without a network to compile."""

from typing import Any

import jax
import oracle

from vdm import predictions
from vdm.model import Model


class Toy(Model):
    """Compiled in no time: the denoiser of data N(0, 0.6²), times a number."""

    def denoiser(self, variables: Any, condition: Any = None, dropout_key: Any = None) -> predictions.Both:
        def denoise(z: jax.Array, gamma: Any) -> predictions.Prediction:
            eps_hat = variables["network"]["scale"] * oracle.gaussian_eps(z, gamma, 0.0, 0.6)
            return predictions.decompose(eps_hat, z, gamma, "eps")

        return denoise
