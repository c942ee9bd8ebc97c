"""Restorations by name: what each makes of a denoiser and of a sampler, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import gaussian, inverse, operators, oracles, parts, restorations, samplers
from vdm.inverse import Measurement
from vdm.operators import Operator

KNOWN = jnp.array([True, False, True])
MASKED = Measurement(operators.mask(KNOWN), jnp.array([[0.5, 0.0, -0.2]] * 4), 0.0)
MIXED = Measurement(Operator(lambda x: x[:, :2] + x[:, 1:], (3,), (2,)), jnp.array([[0.5, -0.2]] * 4), 0.05)
DENOISE = oracles.gaussian(np.zeros(3), np.full(3, 0.5)).denoise
GAMMAS = jnp.linspace(5.0, -6.0, 31)


def draw(text, measurement, gammas=GAMMAS):
    method = parts.make("restoration", text)
    method.check(measurement)
    denoise = method.denoiser(DENOISE, measurement, gammas)
    sampler = method.sampler(samplers.ddim(), measurement, gammas)
    return jax.jit(lambda key: samplers.sample(key, denoise, sampler, gammas, (4, 3)))(jax.random.key(0))


@pytest.mark.parametrize("text", ["dps", "pigdm(prior_var=0.5)", "proximal(0.5)", "mmps(2)", "repaint(2)"])
def test_each_brings_samples_to_what_was_measured(text):
    """Of white data, values that are known without noise: z₀ is α₀ x, with noise σ₀ about it at most."""
    z_0 = draw(text, MASKED)
    off = np.abs(z_0 - gaussian.alpha(-6.0) * MASKED.y)[:, KNOWN]
    assert off.max() < (0.5 if text == "dps" else 0.25)
    assert np.abs(draw("mmps", MASKED) - draw("pigdm(prior_var=0.5)", MASKED)).max() < 1e-3


def test_of_what_mixes_values_repaint_is_refused():
    for text in ("dps", "pigdm", "mmps"):
        assert np.all(np.isfinite(draw(text, MIXED)))
    with pytest.raises(ValueError, match="the operator mixes values; must be one that only picks some"):
        restorations.repaint().check(MIXED)


def test_numbers_and_the_grid_come_through():
    z, gammas = jax.random.normal(jax.random.key(0), (4, 3)), samplers.grids.zero_terminal_snr(GAMMAS)
    for text, same in (
        ("dps(2)", inverse.dps(DENOISE, MIXED, 2.0)),
        ("pigdm(0.5)", inverse.pigdm(DENOISE, MIXED, 0.5)),
        ("mmps(1)", inverse.moment_matching(DENOISE, MIXED, 1)),
    ):
        led = parts.make("restoration", text).denoiser(DENOISE, MIXED, gammas)
        np.testing.assert_allclose(led(z, jnp.float32(0.0)).x, same(z, jnp.float32(0.0)).x, rtol=1e-5, atol=1e-6)
        # From pure noise as from the next level.
        np.testing.assert_allclose(led(z, jnp.inf).x, led(z, gammas[1]).x, rtol=1e-5, atol=1e-6)
    assert [parts.make("restoration", text).gradients for text in ("dps", "pigdm", "mmps(4)", "repaint")] == [
        1,
        1,
        4,
        0,
    ]
    assert restorations.repaint(3).sampler(samplers.heun(), MASKED, GAMMAS).calls == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dps(-1)", "scale=-1.0: must be a number from 0 to 1000"),
        ("pigdm(0)", "prior_var=0.0: must be a number from 1e-06 to 1000"),
        ("mmps(0)", "iterations=0: must be a whole number, 1 or more"),
        ("repaint(0)", "resampling=0: must be a whole number, 1 or more"),
        ("ddrm", "must be one of dps, pigdm, "),
    ],
)
def test_other_numbers_and_names_are_refused(text, says):
    with pytest.raises(parts.PartError, match=says):
        parts.make("restoration", text)
