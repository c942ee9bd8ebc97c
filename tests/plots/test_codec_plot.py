"""The stack's heights as drawn, against the identity of both factorisations of q, the closed bound, and the codec's."""

import numpy as np
import pytest
from scipy.special import expit

from vdm.codec.chain import Chain, compiled
from vdm.plots import codec


def closed_bound(gamma_min, gamma_max, num_steps):
    """L_T of normal data with the exact denoiser in bits/dim, without the reconstruction: all but free here."""
    gammas = np.linspace(gamma_min, gamma_max, num_steps + 1)
    alpha_sq, var = expit(-gammas[1:]), expit(gammas[1:])
    error = codec.STD**2 * var / (alpha_sq * codec.STD**2 + var)
    diffusion = 0.5 * np.sum(-np.diff(np.exp(-gammas)) * error)
    signal = alpha_sq[-1]
    prior = 0.5 * (signal * (codec.STD**2 - 1) + np.log1p(np.exp(-gamma_max)))
    return (diffusion + prior) / np.log(2)


@pytest.mark.parametrize("num_steps", [1, 25, 200])
def test_both_orders_end_at_the_bound(num_steps):
    found = codec.heights(-13.3, 5.0, num_steps)
    bound = closed_bound(-13.3, 5.0, num_steps)
    assert found.bottom_up[-1] == pytest.approx(found.top_down[-1], rel=1e-9)
    # A sum of ½Δ² + Δε over steps, with Δ itself normal: relative to KL nats a dimension, √(2 KL + 2 KL²) at most.
    nats = bound * np.log(2)
    stderr = np.sqrt(2 * nats + 2 * nats**2) / np.log(2) / np.sqrt(codec.NUM_VALUES)
    assert found.bottom_up[-1] == pytest.approx(bound, abs=4 * stderr + 0.02)


def test_what_is_borrowed_is_what_the_codec_reckons_with():
    num_steps = 25
    found = codec.heights(-13.3, 5.0, num_steps)
    gammas = np.linspace(5.0, -13.3, num_steps + 1)
    chain = Chain(compiled(lambda z, gamma: z), gammas, (1, 1, 1), codec.LEVELS, 1)
    # Beside the entropies here are the price of z₀ under p and this path's noise: small numbers on both sides.
    assert -found.bottom_up.min() == pytest.approx(chain.bits_borrowed, abs=0.1)
    assert -found.top_down.min() > 10 * chain.bits_borrowed
