"""Draws from given images: of a model whose denoiser is known, so that what is drawn is known too."""

from dataclasses import replace

import conditional
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from toy_model import Toy

from vdm import likelihoods, operators, parallel, parts
from vdm.config import SamplingConfig
from vdm.errors import InputError
from vdm.evaluation.edited import (
    MOST_DRAWS,
    Editor,
    Given,
    Way,
    inverted,
    measured,
    noised,
    part_of_grid,
    restored,
)
from vdm.evaluation.images import ImageSampler, ModelSampling
from vdm.evaluation.psnr import psnr, residual_rms
from vdm.inverse import Measurement

SHAPE, LEVELS = (4, 4, 1), 17
KEY = jax.random.key(3)
SETTINGS = SamplingConfig(num=8, steps=8, batch_size=8, sampler="ancestral")


@pytest.fixture(scope="module")
def toy() -> tuple[Toy, dict]:
    """Data N(0, 0.6²), exactly denoised."""
    made = tiny.model()
    return Toy(**vars(made)), {
        "network": {"scale": jnp.float32(1)}, "schedule": made.schedule.init(KEY), "likelihood": {}
    }  # fmt: skip


def drawn(toy, way: Way, rows: dict, draws: int, devices: int = 2, **settings) -> np.ndarray:
    model, variables = toy
    editor = Editor(model, parallel.make_mesh(devices), replace(SETTINGS, **settings), way)
    return editor(variables, KEY, draws, rows)


def encoded(num: int, seed: int = 0) -> np.ndarray:
    return np.asarray(likelihoods.encode(tiny.images(num, SHAPE, LEVELS, seed), LEVELS))


def test_a_draw_depends_on_its_image_and_its_number_alone(toy):
    x = encoded(3)
    whole = drawn(toy, noised(0.7), {"x": x}, 3)
    assert whole.shape == (3, 3, *SHAPE)
    assert whole.dtype == np.uint8
    assert len({image.tobytes() for image in whole.reshape(9, -1)}) == 9
    fewer = drawn(toy, noised(0.7), {"x": x[:2]}, 2, batch_size=2)
    on_eight = drawn(toy, noised(0.7), {"x": x}, 3, devices=8, batch_size=5)
    # Other batches may round the last bit otherwise.
    assert np.mean(fewer != whole[:2, :2]) < 0.05
    assert np.mean(on_eight != whole) < 0.05


def test_the_first_draw_of_pure_noise_is_the_sample_of_its_number(toy):
    """SDEdit from t = 1 of an image that is 0 starts from z₁ of the same keys: image k of vdm sample is draw k."""
    model, variables = toy
    mesh = parallel.make_mesh(2)
    samples, _ = ImageSampler(model, mesh, SETTINGS)(variables, KEY, 3)
    ours = drawn(toy, noised(1.0), {"x": np.zeros((1, *SHAPE), np.float32)}, 3)[0]
    assert np.mean(ours != samples) < 0.05


def test_strength_0_returns_the_image_and_more_of_it_is_lost_the_higher_it_is(toy):
    images = np.asarray(tiny.images(4, SHAPE, LEVELS))
    x = encoded(4)
    assert np.array_equal(drawn(toy, noised(0.0), {"x": x}, 2), np.stack([images] * 2, axis=1))
    errors = [np.abs(drawn(toy, noised(t), {"x": x}, 4) - 1.0 * images[:, None]).mean()
              for t in (0.1, 0.4, 0.9)]  # fmt: skip
    assert errors[0] < errors[1] < errors[2]


def test_ddim_up_and_down_is_the_image(toy):
    """With the same condition up and down nothing changes, up to the solver's error."""
    model, _ = toy
    plain = ModelSampling(model, None, replace(SETTINGS, sampler="ddim", steps=100))
    images = np.asarray(tiny.images(4, SHAPE, LEVELS))
    rows = {"x": encoded(4), "own": None}
    again = drawn(toy, inverted(plain), rows, 1, sampler="ddim", steps=100)[:, 0]
    assert np.abs(again - 1.0 * images).max() <= 1


def test_ddim_down_with_another_label_is_an_image_of_that_label():
    """Of data that the label determines, whatever the image was."""
    model = conditional.model(True)
    variables = conditional.exact(model)
    settings = replace(SETTINGS, sampler="ddim", steps=20)
    own, new = conditional.labels(4), (conditional.labels(4) + 1) % conditional.NUM
    x = np.asarray(likelihoods.encode(conditional.PATTERNS[own], conditional.LEVELS))
    way = inverted(ModelSampling(model, None, settings), 0.8)
    editor = Editor(model, parallel.make_mesh(2), settings, way)
    rows = {"x": x, "own": {"label": own.astype(np.int32)}}
    found = editor(variables, KEY, 1, rows, {"label": new.astype(np.int32)})[:, 0]
    assert np.array_equal(found, conditional.PATTERNS[new])


@pytest.mark.parametrize("method", ["mmps(1)", "pigdm(0.36)"])
def test_restored_draws_have_the_mean_and_variance_of_the_posterior(toy, method):
    """Of white data N(0, s²) and y = x + noise of N(0, s_y²) both are in closed form, and both methods exact."""
    operator, noise, num = operators.mask(jnp.ones(SHAPE, bool)), 0.4, 500
    y = np.full((1, *SHAPE), 0.5, np.float32)
    way = restored(parts.make("restoration", method), operator, noise)
    found = drawn(toy, way, {"y": y}, num, batch_size=500, steps=60)
    x = np.asarray(likelihoods.encode(found, LEVELS))
    var = 1 / (1 / 0.6**2 + 1 / noise**2)
    mean = var * 0.5 / noise**2
    bins = (2 / LEVELS) ** 2 / 12  # of decoding
    values = x.size  # independent
    # Ancestral steps are biased by O(1/T): what is left of it at 60 steps.
    assert x.mean() == pytest.approx(mean, abs=4 * np.sqrt(var / values) + 0.01)
    assert x.var() == pytest.approx(var + bins, rel=4 * np.sqrt(2 / values) + 0.05)


def test_what_is_measured_is_of_each_image_alone():
    operator, x = parts.make("operator", "downsample(2)", shape=SHAPE), jnp.asarray(encoded(5))
    y = measured(KEY, operator, x, 0.1)
    np.testing.assert_allclose(measured(KEY, operator, x[:2], 0.1), y[:2], atol=1e-6)
    np.testing.assert_array_equal(measured(KEY, operator, x, 0.0), operator.apply(x))
    many = jnp.zeros((400, *SHAPE))
    noise = measured(KEY, operator, many, 0.1)
    assert noise.std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * noise.size))


def test_too_many_draws_are_refused(toy):
    with pytest.raises(ValueError, match=f"1 to {MOST_DRAWS}"):
        drawn(toy, noised(0.5), {"x": encoded(1)}, MOST_DRAWS + 1)


def test_what_is_not_finite_is_said(toy):
    model, variables = toy
    editor = Editor(model, parallel.make_mesh(2), SETTINGS, noised(0.5))
    broken = variables | {"network": {"scale": jnp.float32(jnp.nan)}}
    with pytest.raises(InputError, match="not finite"):
        editor(broken, KEY, 1, {"x": encoded(2)})


def test_psnr_is_that_of_the_definition_and_the_residual_that_of_the_noise():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, 8, 8, 3), np.uint8)
    off = truth.astype(float) + 5
    np.testing.assert_allclose(psnr(off, truth, 256), 20 * np.log10(255 / 5))
    assert psnr(truth, truth, 256) == pytest.approx([20 * np.log10(255 * np.sqrt(12))] * 3)
    operator = parts.make("operator", "missing(0.5)", shape=(8, 8, 3))
    y = measured(KEY, operator, likelihoods.encode(truth, 256), 0.2)
    found = residual_rms(operator, truth[:, None], y, 256)
    assert found.shape == (3, 1)
    assert found.mean() == pytest.approx(0.2, rel=5 / np.sqrt(2 * 3 * operators.num_measured(operator)))


def test_steps_of_a_discrete_model_are_its_own():
    """From t = ½ of a model of 8 steps there are 4, however many are asked for."""
    made = tiny.model()
    model = replace(made, num_steps=8)
    settings = replace(SETTINGS, steps=6)
    sampling = ModelSampling(model, None, settings)
    variables = {"schedule": made.schedule.init(KEY)}
    given = Given(sampling, variables, sampling.leading, KEY, jnp.zeros(1, jnp.int32), {}, None)
    found = part_of_grid(given, 0.5)
    wanted = [model.gamma(variables, jnp.float32(i / 8)) for i in (4, 3, 2, 1, 0)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_measurements_of_masks_are_0_where_nothing_is_known():
    operator = parts.make("operator", "box(2)", shape=SHAPE)
    y = measured(KEY, operator, jnp.asarray(encoded(2)), 0.1)
    assert not y[:, ~np.asarray(operator.known)].any()
    assert Measurement(operator, jnp.asarray(y)).std == 0.0
