"""The model: the bound's terms against their float64 formulas, and what a config may say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import tiny

import vdm.model
from vdm import predictions, timesteps
from vdm.config import DataConfig
from vdm.errors import InputError

NUM = 6


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def variables(model):
    return tiny.variables(model)


@pytest.fixture(scope="module")
def bound(model):
    return jax.jit(model.bound)


def draws_of(model, num: int, seed: int = 0) -> vdm.model.Draws:
    return model.draw(jax.random.key(seed), num)


@pytest.mark.parametrize("shape", [(4, 4, 1), (3, 5, 3)])
def test_terms_are_their_formulas(shape):
    """Each term in float64 with the network's own ε̂; grayscale and colour images are summed once alike."""
    model = tiny.model(shape=shape)
    variables = tiny.variables(model)
    images = tiny.images(NUM, shape)
    draws = draws_of(model, NUM)
    gamma_t, slope = (2.0 * draws.t - 1.0, 3.0 + draws.t)
    bound = jax.jit(model.bound_at)(variables, {"image": images}, draws, gamma_t, slope)

    x = oracle.f64((2 * np.asarray(images, int) + 1) / 17 - 1)
    gamma_0, gamma_1 = (float(model.gamma(variables, jnp.float32(t))) for t in (0, 1))
    eps, eps_0, axes = oracle.f64(draws.eps), oracle.f64(draws.eps_0), (1, 2, 3)

    z_0 = oracle.alpha(gamma_0) * x + oracle.sigma(gamma_0) * eps_0
    reconstruction = -oracle.decoder_log_prob(images, z_0, gamma_0, 17).sum(axis=axes)
    np.testing.assert_allclose(bound.reconstruction, reconstruction, rtol=1e-4)

    mean, var = oracle.alpha(gamma_1) * x, oracle.sigma(gamma_1) ** 2
    # The terms of the KL are of size α₁² = 0.02 and partly cancel: 45 of them within 1e-6.
    np.testing.assert_allclose(
        bound.prior, 0.5 * (mean**2 + var - 1 - np.log(var)).sum(axis=axes), rtol=1e-4, atol=1e-6
    )

    column = oracle.f64(gamma_t).reshape(NUM, 1, 1, 1)
    z_t = (oracle.alpha(column) * x + oracle.sigma(column) * eps).astype(np.float32)
    eps_hat = oracle.f64(jax.jit(model.denoise)(variables, jnp.asarray(z_t), gamma_t))
    diffusion = 0.5 * oracle.f64(slope) * ((eps - eps_hat) ** 2).sum(axis=axes)
    # The network magnifies the rounding of z_t: by its Fourier features up to 2⁴π.
    np.testing.assert_allclose(bound.diffusion, diffusion, rtol=1e-3)


def test_bound_uses_the_schedules_gamma_and_slope(model, variables, bound):
    key = jax.random.key(5)
    batch = {"image": tiny.images(NUM)}
    draws = model.draw(key, NUM)
    gamma_t, slope = jax.jvp(lambda t: model.gamma(variables, t), (draws.t,), (jnp.ones(NUM),))
    expected = jax.jit(model.bound_at)(variables, batch, draws, gamma_t, slope)
    for ours, theirs in zip(bound(variables, key, batch), expected, strict=True):
        assert ours.shape == (NUM,)
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_total_is_the_sum(model, variables, bound):
    result = bound(variables, jax.random.key(0), {"image": tiny.images(NUM)})
    np.testing.assert_allclose(result.total, np.sum(result, axis=0), rtol=1e-6)


def test_every_key_has_the_same_prior_and_its_own_noise(model, variables, bound):
    batch = {"image": tiny.images(NUM)}
    one, two = (bound(variables, jax.random.key(seed), batch) for seed in (0, 1))
    np.testing.assert_array_equal(one.prior, two.prior)
    assert np.all(one.reconstruction != two.reconstruction)
    assert np.all(one.diffusion != two.diffusion)
    again = bound(variables, jax.random.key(0), batch)
    for left, right in zip(one, again, strict=True):
        np.testing.assert_array_equal(left, right)


def test_an_example_does_not_depend_on_the_others(model, variables):
    """With the same draws, the rest of the batch (padding, say) changes nothing."""
    images, draws = tiny.images(NUM), draws_of(model, NUM)
    gamma_t, slope = jnp.linspace(-3, 2, NUM), jnp.full(NUM, 11.0)
    bound_at = jax.jit(model.bound_at)
    full = bound_at(variables, {"image": images}, draws, gamma_t, slope)
    # Another batch, equal in its first three examples.
    other = images.at[3:].set(0)
    other_draws = jax.tree.map(lambda v: v.at[3:].set(0.5), draws)
    padded = bound_at(variables, {"image": other}, other_draws, gamma_t.at[3:].set(0), slope)
    for left, right in zip(full, padded, strict=True):
        np.testing.assert_allclose(left[:3], right[:3], rtol=1e-6)
        assert np.all(left[3:] != right[3:])


def test_draws_are_independent_and_of_the_right_law(model):
    draws = model.draw(jax.random.key(0), 500)
    assert draws.t.shape == (500,)
    for noise in (draws.eps, draws.eps_0):
        assert noise.shape == (500, 4, 4, 1)
        oracle.assert_mean(noise.reshape(-1), 0)
        oracle.assert_mean(noise.reshape(-1) ** 2, 1)
    oracle.assert_mean((draws.eps * draws.eps_0).reshape(-1), 0)


@pytest.mark.parametrize(("times", "even"), [(timesteps.stratified, True), (timesteps.iid, False)])
def test_times_are_of_the_given_kind(model, times, even):
    t = np.sort(model.draw(jax.random.key(0), 32, times).t)
    assert np.allclose(np.diff(t), 1 / 32, atol=1e-6) == even


def test_variables_have_three_parts(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert set(shapes) == {"network", "schedule", "likelihood"}
    assert shapes["likelihood"] == {}
    assert set(shapes["schedule"]) == {"ends", "shape"}


def test_scalar_gamma_is_every_examples_gamma(model, variables):
    z = jax.random.normal(jax.random.key(1), (NUM, 4, 4, 1))
    denoise = jax.jit(model.denoise)
    np.testing.assert_allclose(
        denoise(variables, z, jnp.float32(0.3)), denoise(variables, z, jnp.full(NUM, 0.3)), rtol=1e-5, atol=1e-6
    )


def test_dropout_only_with_a_key():
    model = tiny.model(dropout=0.5)
    variables = tiny.variables(model)
    z = jax.random.normal(jax.random.key(1), (NUM, 4, 4, 1))
    denoise = jax.jit(lambda key: model.denoiser(variables, None, key)(z, jnp.float32(0.3)).eps)
    plain = denoise(None)
    np.testing.assert_array_equal(plain, denoise(None))
    one, two = denoise(jax.random.key(0)), denoise(jax.random.key(1))
    for left, right in ((plain, one), (plain, two), (one, two)):
        assert np.max(np.abs(left - right)) > 1e-3
    np.testing.assert_array_equal(one, denoise(jax.random.key(0)))


def test_num_dims():
    assert tiny.model(shape=(3, 5, 2)).num_dims == 30


@pytest.mark.parametrize("name", ["linear", "cosine", "shifted_cosine(shift=1)", "learned_linear", "learned_monotone"])
def test_from_config_makes_the_schedule_it_names(name):
    config = tiny.config()
    config.schedule = dataclasses.replace(config.schedule, name=name)
    model = vdm.model.from_config(config)
    params = model.schedule.init(jax.random.key(0))
    np.testing.assert_allclose(model.schedule.gamma(params, jnp.array([0.0, 1.0])), [-7.0, 4.0], rtol=1e-6)
    assert set(params) == {"learned_linear": {"ends"}, "learned_monotone": {"ends", "shape"}}.get(name, set())
    middle = float(model.schedule.gamma(params, 0.5))
    if "cosine" in name:
        shift = 1.0 if "shift" in name else 0.0
        angles = [np.arctan(np.exp((g - shift) / 2)) for g in (-7.0, 4.0)]
        np.testing.assert_allclose(middle, 2 * np.log(np.tan(np.mean(angles))) + shift, atol=1e-5)
    if name in ("linear", "learned_linear"):
        np.testing.assert_allclose(middle, -1.5, atol=1e-6)


@pytest.mark.parametrize(("levels", "exponents"), [(256, (7, 8)), (17, (3, 4)), (2, (0, 1))])
def test_from_config_takes_the_fourier_features_from_the_levels(levels, exponents):
    assert tuple(tiny.model(levels=levels).network.fourier) == exponents
    assert tuple(tiny.model(levels=levels, fourier=(2, 5)).network.fourier) == (2, 5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data": DataConfig(levels=17)}, "data.shape"),
        ({"data": DataConfig(shape=(4, 4, 1))}, "data.levels"),
        ({"data": DataConfig(shape=(4, 4), levels=17)}, "data.shape"),
        ({"data": DataConfig(shape=(4, 0, 1), levels=17)}, "data.shape"),
        ({"data": DataConfig(shape=(4, 4, 1), levels=1)}, "data.levels"),
        ({"data": DataConfig(shape=(4, 4, 1), levels=257)}, "data.levels"),
    ],
)
def test_from_config_refuses_data_it_cannot_model(change, field):
    with pytest.raises(InputError, match=field):
        vdm.model.from_config(dataclasses.replace(tiny.config(), **change))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("schedule", "name", "quadratic"),
        ("schedule", "gamma_max", -7.0),
        ("schedule", "name", "learned_monotone(hidden=0)"),
        ("network", "channels", 0),
        ("network", "depth", -1),
        ("network", "heads", 3),
        ("network", "attention", "nowhere"),
        ("network", "dropout", 1.0),
    ],
)
def test_from_config_refuses_parts_it_cannot_build(part, field, value):
    config = tiny.config()
    setattr(getattr(config, part), field, value)
    with pytest.raises(InputError, match=rf"config\.{part}\.{field}"):
        vdm.model.from_config(config)


@pytest.mark.parametrize("kind", predictions.PREDICTIONS)
def test_every_prediction_becomes_the_noise(kind):
    """ε̂ from the raw network by the formula of its kind, float64; energies by finite differences along a direction."""
    model = tiny.model(prediction=kind)
    variables = tiny.variables(model)
    z = jax.random.normal(jax.random.key(0), (NUM, 4, 4, 1))
    gamma = jnp.linspace(-6, 3, NUM)
    ours = jax.jit(model.denoise)(variables, z, gamma)
    g = oracle.f64(gamma).reshape(-1, 1, 1, 1)
    a, s = oracle.alpha(g), oracle.sigma(g)
    r = np.sqrt(s**2 + 0.25 * a**2)

    def raw(z):
        return oracle.f64(
            jax.jit(model.network.apply)({"params": variables["network"]}, jnp.asarray(z, jnp.float32), gamma)
        )

    if kind == "energy":
        step, direction = 1e-3, np.random.default_rng(0).normal(size=z.shape)
        up, down = (0.5 * (raw(oracle.f64(z) + sign * step * direction) ** 2).sum((1, 2, 3)) for sign in (1, -1))
        slope = (oracle.f64(ours) * direction).sum((1, 2, 3))
        # The Fourier features turn by 2⁴π·step = 0.05 over a step, and float32 energies of 10 leave 1e-6 over 2·step.
        np.testing.assert_allclose(slope, s.ravel() * (up - down) / (2 * step), rtol=0.1, atol=0.1)
        return
    value = raw(oracle.f64(z) / r) if kind == "F" else raw(z)
    expected = {
        "eps": value,
        "x": (oracle.f64(z) - a * value) / s,
        "score": -s * value,
        "v": s * z + a * value,
        "u": (z + a * value) / (a + s),
        "F": s * (z / r) / r - a * 0.5 * value / r,
    }[kind]
    # The network magnifies the rounding of z/r; everything else is a few roundings.
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3 * np.max(np.abs(expected)))
