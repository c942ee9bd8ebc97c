"""UniPC on Gaussian data: predictor and corrector by quadrature, one call a step."""

import affine
import jax.numpy as jnp
import oracle
import pytest

from vdm import samplers


def formula(order):
    def step(z, predict, memory, gamma_t, gamma_s, noise):
        """`memory` is (z where the last step began, corrected; (γ, x̂), the newest first)."""
        before, guesses = memory

        def advanced(z, gamma_t, gamma_s, guesses):
            # u = λ − λ_t in the paper's λ = −γ/2.
            h, points = (gamma_t - gamma_s) / 2, [(gamma_t - gamma) / 2 for gamma, _ in guesses]
            drift = affine.integral(h, points, [x for _, x in guesses])
            return oracle.sigma(gamma_s) / oracle.sigma(gamma_t) * z + oracle.alpha(gamma_s) * drift

        guesses = [(gamma_t, predict(z, gamma_t)[0]), *guesses]
        if before is not None:
            z = advanced(before, guesses[1][0], gamma_t, guesses[: order + 1])
        used = guesses[:order]
        if order == len(used) == 2:
            # B₂(h) = e^h − 1: the line at the middle of the step.
            (gamma, x_hat), (gamma_before, x_hat_before) = used
            slope = (x_hat - x_hat_before) / (gamma - gamma_before)
            used = [(gamma_t, x_hat + slope * (gamma_s - gamma_t) / 2)]
        return advanced(z, gamma_t, gamma_s, used), (z, guesses)

    return step


@pytest.mark.parametrize("order", [1, 2, 3])
def test_moments_after_every_step(order):
    affine.check(samplers.unipc(order), formula(order), (None, []))


@pytest.mark.parametrize("order", [0, 4])
def test_another_order_is_refused(order):
    with pytest.raises(ValueError, match=f"order={order}: must be one of 1, 2, 3"):
        samplers.unipc(order)


def test_the_default_is_of_order_2():
    z = jnp.zeros((1, 1))
    assert len(samplers.unipc().init(z).gammas) == len(samplers.unipc(2).init(z).gammas) == 2
