"""`LatentSampler`: the same image k whatever the batch, draws of the model, ends of a way, reconstructions."""

import jax
import linear_gaussian as lg
import numpy as np
import pytest

from vdm import parallel
from vdm.errors import InputError
from vdm.evaluation.latent_images import LatentSampler
from vdm.predecessors.config import LatentSamplingConfig

KEY = jax.random.key(5)
MODEL = lg.model(2)
VARIABLES = lg.variables(MODEL, **lg.exact(2))


def sampler(decode: str = "mean", batch_size: int = 8) -> LatentSampler:
    config = LatentSamplingConfig(batch_size=batch_size, decode=decode, precision="float32")
    return LatentSampler(MODEL, parallel.make_mesh(), config)


@pytest.mark.parametrize("decode", ["mean", "draw"])
def test_image_k_is_the_same_in_any_batch(decode):
    all_at_once = sampler(decode, 24)(VARIABLES, KEY, 24)
    parts = sampler(decode)(VARIABLES, KEY, 16), sampler(decode)(VARIABLES, KEY, 5, first=16)
    np.testing.assert_allclose(np.concatenate(parts), all_at_once[:21], rtol=1e-5, atol=1e-6)


def test_draws_are_of_the_model():
    """Their covariance is F Fᵀ; without the noise of x given z₁, that of its mean."""
    num, factor = 8000, lg.factor(2)
    for decode, of in (("draw", factor), ("mean", factor[:, : 2 * lg.LATENTS])):
        drawn = sampler(decode, num)(VARIABLES, KEY, num).astype(np.float64)
        covariance = of @ of.T
        diagonal = np.diag(covariance)
        error = np.sqrt((diagonal[:, None] * diagonal + covariance**2) / num)
        assert (np.abs(np.cov(drawn.T) - covariance) < 4.5 * error).all()


def test_a_way_goes_from_one_draw_to_the_next():
    made, drawn = sampler(), sampler()(VARIABLES, KEY, 6)
    frames = made.interpolate(VARIABLES, KEY, 3, 5)
    assert frames.shape == (5, 3, lg.DIMS)
    np.testing.assert_allclose(frames[0], drawn[::2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(frames[-1], drawn[1::2], rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"^config.sampling.decode='draw': no image follows from its latents"):
        sampler("draw").interpolate(VARIABLES, KEY, 3, 5)


def test_reconstructions_are_of_the_posterior():
    """W z₁ with z₁ ~ p(z₁|x): their errors over many images."""
    x = np.asarray(lg.images(4000, 2))
    again = sampler(batch_size=4000).reconstruct(VARIABLES, KEY, x)
    matrix, covariance = lg.posterior(2)
    w, one = lg.ROTATION * lg.SLOPE, slice(0, lg.LATENTS)
    residual = again - x @ (w @ matrix[one]).T
    expected = np.diag(w @ covariance[one, one] @ w.T)
    np.testing.assert_allclose(residual.var(axis=0), expected, rtol=4.5 * np.sqrt(2 / len(x)))
