"""VAE and HVAE as latent models: shapes, draws, reconstructions, what depends on what, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import decodings, likelihoods
from vdm.keys import image_keys
from vdm.predecessors.coders import GAMMAS, doubled, within
from vdm.predecessors.hvae import hvae
from vdm.predecessors.latent import LatentModel, Observed
from vdm.predecessors.normal import Normal
from vdm.predecessors.vae import VAE, vae

KEY = jax.random.key(0)
SMALL = {"width": 8, "depth": 1, "levels": 5}

MODELS = {
    "vae of images": vae(latents=2, shape=(9, 6, 2), coder="conv", **SMALL),
    "vae of vectors": vae(latents=2, shape=(2,), **(SMALL | {"levels": likelihoods.REAL})),
    "hvae": hvae(layers=3, latents=2, shape=(3,), **SMALL),
    "hvae, Markov": hvae(layers=3, latents=2, skip=False, shape=(3,), **SMALL),
    "hvae, bottom up": hvae(layers=3, latents=2, inference="bottom_up", shape=(3,), **SMALL),
}
TOP_DOWN = [name for name in MODELS if "bottom up" not in name]


def images(model, num=4):
    if model.levels == likelihoods.REAL:
        return jax.random.normal(jax.random.key(9), (num, *model.shape))
    return tiny.images(num, model.shape, model.levels)


@functools.cache
def of(name):
    """(model, variables off their start, images, noise, what is compiled of it once)."""
    model = MODELS[name]
    variables = tiny.variables(model)
    return model, variables, images(model), model.draw(KEY, 4), Compiled(model)


class Compiled:
    """The functions of a model, each compiled at its first call."""

    def __init__(self, model):
        for name in ("path", "generate", "decode", "reconstruct", "posterior"):
            setattr(self, name, jax.jit(getattr(model, name)))


def close(left, right, **tolerance):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


@pytest.mark.parametrize("name", MODELS)
def test_shapes(name):
    model, variables, x, eps, call = of(name)
    path = call.path(variables, x, eps)
    assert tuple(z.shape for z in path.latents) == tuple((4, *shape) for shape in model.latent_shapes)
    assert [len(part) for part in (path.posteriors, path.priors, path.rates, path.log_ratios)] == [model.num_layers] * 4
    assert {term.shape for term in (path.bound, path.log_weight, *path.rates)} == {(4,)}
    for observed in (call.generate(variables, eps), call.reconstruct(variables, x, eps)):
        assert observed.center.shape == observed.gamma.shape == x.shape
    assert model.num_dims == np.prod(model.shape)


@pytest.mark.parametrize("name", TOP_DOWN)
def test_rates_are_kls(name):
    """Of what the path says was drawn from what; so they are never below 0, and their mean is that of log ratios."""
    _, variables, x, eps, call = of(name)
    path = call.path(variables, x, eps)
    for rate, q, p in zip(path.rates, path.posteriors, path.priors, strict=True):
        assert (rate >= 0).all()
        assert rate.max() > 1e-3
        d = q.log_std - p.log_std
        each = 0.5 * (jnp.exp(2 * d) + ((q.mean - p.mean) * jnp.exp(-p.log_std)) ** 2 - 1) - d
        close(rate, each.sum(axis=1))


@pytest.mark.parametrize("name", MODELS)
def test_noise_that_is_zero_is_at_the_means(name):
    """And z = μ + σ ε: reparameterisation, of each layer given those before it."""
    _, variables, x, eps, call = of(name)
    path = call.path(variables, x, eps)
    for z, q, e in zip(path.latents, path.posteriors, eps, strict=True):
        close(z, q.mean + jnp.exp(q.log_std) * e)
    still = call.path(variables, x, [jnp.zeros_like(e) for e in eps])
    close(still.latents[-1], still.posteriors[-1].mean)


@pytest.mark.parametrize("name", MODELS)
def test_reconstructions_are_what_the_bound_scores(name):
    """p(x|z) of the path's latents, whose −log is the path's; and draws from the prior with the noise of these."""
    model, variables, x, eps, call = of(name)
    path, observed = call.path(variables, x, eps), call.reconstruct(variables, x, eps)
    close(observed.loss(x, model.levels), path.reconstruction)
    close(call.decode(variables, path.latents), observed)
    of_prior = [(z - p.mean) * jnp.exp(-p.log_std) for z, p in zip(path.latents, path.priors, strict=True)]
    close(call.generate(variables, of_prior), observed, rtol=1e-3, atol=1e-4)
    close(call.generate(variables, of_prior, path.latents[-1]), observed, rtol=1e-3, atol=1e-4)
    other = call.generate(variables, of_prior, path.latents[-1] + 1)
    assert np.abs(other.center - observed.center).max() > 1e-2


def test_the_posterior_of_the_top_layer():
    """From the top down it is one of x alone; from the bottom up the noise below must be said."""
    for name in TOP_DOWN:
        model, variables, x, eps, call = of(name)
        q = call.posterior(variables, x)
        assert isinstance(q, Normal)
        close(q, call.path(variables, x, eps).posteriors[-1])
    model, variables, x, eps, call = of("hvae, bottom up")
    close(call.posterior(variables, x, eps), call.path(variables, x, eps).posteriors[-1])
    with pytest.raises(ValueError, match=r"eps=None: must be the noise of z_1 … z_T"):
        model.posterior(variables, x)
    one = hvae(layers=1, latents=2, inference="bottom_up", shape=(3,), **SMALL)
    assert not one.network.needs_path


@pytest.mark.parametrize(("name", "skip"), [("hvae", True), ("hvae, Markov", False)])
def test_without_skip_it_is_a_markov_chain(name, skip):
    """Eq. 2.14: what is above z_2 does not matter where that is given; with a deterministic path it does."""
    _, variables, x, eps, call = of(name)
    z = call.path(variables, x, eps).latents
    one, other = call.decode(variables, z), call.decode(variables, (*z[:2], z[2] + 1))
    differs = np.abs(one.center - other.center).max()
    assert (differs > 1e-2) if skip else (differs == 0)


def test_bottom_up_inference_is_a_markov_chain():
    """Eq. 2.17: q(z_2|z_1) and q(z_3|z_2) do not ask for x."""
    model, variables, x, eps, call = of("hvae, bottom up")
    path = call.path(variables, x, eps)
    other = images(model, 8)[4:]
    q_1 = call.path(variables, other, eps).posteriors[0]
    same = (path.latents[0] - q_1.mean) * jnp.exp(-q_1.log_std), *eps[1:]
    moved = call.path(variables, other, same)
    assert np.abs(moved.posteriors[0].mean - path.posteriors[0].mean).max() > 1e-2
    close(moved.posteriors[1:], path.posteriors[1:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["vae of images", "hvae", "hvae, bottom up"])
def test_every_parameter_is_learned(name):
    model, variables, x, eps, _ = of(name)
    gradients = jax.jit(jax.grad(lambda v: jnp.mean(model.path(v, x, eps).bound)))(variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["vae of images", "hvae"])
def test_at_first_all_latents_are_standard_normal(name):
    model, _, x, eps, call = of(name)
    path = call.path(jax.jit(model.init)(KEY), x, eps)
    for normal in (*path.posteriors, *path.priors):
        close(normal, jax.tree.map(jnp.zeros_like, normal))


def test_noise_of_an_image_is_its_own():
    model = MODELS["hvae"]
    close(model.draw(KEY, 3), [each[:3] for each in model.draw(KEY, 7)], rtol=0, atol=0)
    close(model.draw_each(image_keys(KEY, 4, first=3)), [each[3:] for each in model.draw(KEY, 7)], rtol=0, atol=0)
    one, two, three = model.draw(KEY, 3)
    assert np.abs(one - two).min() > 0
    assert np.abs(two - three).min() > 0


@pytest.mark.parametrize("given", [{"coder": "mlp", "shape": (3,)}, {"coder": "conv", "shape": (5, 4, 1)}])
def test_dropout_is_on_with_a_key_only(given):
    model = vae(latents=2, dropout=0.5, **given, **SMALL)
    variables, x, eps = tiny.variables(model), images(model), model.draw(KEY, 4)
    bound = jax.jit(lambda key: model.path(variables, x, eps, key).bound)
    on, other, off = bound(KEY), bound(jax.random.key(1)), bound(None)
    assert np.abs(on - other).max() > 1e-3
    assert np.abs(on - off).max() > 1e-3


@pytest.mark.parametrize("name", ["vae of images", "hvae"])
def test_precisions(name):
    """bfloat16 is another number, close by: within what 2⁻⁸ makes of a few layers; latents and bounds are float32."""
    model, variables, x, eps, call = of(name)
    other = model.computed_in("bfloat16")
    assert other.computed_in("float32") == model
    assert jax.tree.map(jnp.shape, jax.eval_shape(other.init, KEY)) == jax.tree.map(jnp.shape, variables)
    a, b = call.path(variables, x, eps).bound, jax.jit(other.path)(variables, x, eps).bound
    assert b.dtype == jnp.float32
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


def test_an_observed_is_the_packages_likelihood():
    """Of integers, that of z₀ with noise of each value; of real numbers, a normal density in closed form."""
    x = tiny.images(3, (4,), 5)
    center, gamma = jax.random.normal(KEY, (3, 4)), jnp.linspace(-3, 1, 12).reshape(3, 4)
    loss = jax.jit(lambda x, c, g: -likelihoods.log_prob(x, Observed(c, g).z_0, g, 5))
    each = [loss(x[:, i : i + 1], center[:, i : i + 1], gamma[:, i : i + 1]) for i in range(4)]
    close(jax.jit(lambda: Observed(center, gamma).loss(x, 5))(), sum(each))
    real = jax.random.normal(jax.random.key(1), (3, 4))
    density = 0.5 * ((real - center) ** 2 * jnp.exp(-gamma) + gamma + np.log(2 * np.pi))
    close(Observed(center, gamma).loss(real, likelihoods.REAL), density.sum(axis=1))


@pytest.mark.parametrize("levels", [5, likelihoods.REAL])
def test_draws_of_an_observed_are_of_its_likelihood(levels):
    """With noise of each value: as often as its log density says, or of its mean and variance."""
    num, center, gamma = 8000, jnp.array([[-0.9, 0.1, 0.4]]), jnp.array([[-3.0, -1.0, 0.5]])
    observed = Observed(jnp.repeat(center, num, axis=0), jnp.repeat(gamma, num, axis=0))
    drawn = jax.jit(lambda keys: decodings.draw()(keys, observed.z_0, observed.gamma, levels))(image_keys(KEY, num))
    if levels == likelihoods.REAL:
        u = np.asarray((drawn - center) * jnp.exp(-0.5 * gamma), np.float64)
        assert (np.abs(u.mean(axis=0)) < 4 / np.sqrt(num)).all()
        assert (np.abs(u.var(axis=0) - 1) < 4 * np.sqrt(2 / num)).all()
        return
    values = (2 * np.arange(levels) + 1) / levels - 1
    weights = np.exp(-0.5 * np.exp(-np.asarray(gamma[0]))[:, None] * (np.asarray(center[0])[:, None] - values) ** 2)
    wanted = weights / weights.sum(axis=1, keepdims=True)
    often = np.stack([np.mean(np.asarray(drawn) == k, axis=0) for k in range(levels)], axis=1)
    assert (np.abs(often - wanted) < 4.5 * np.sqrt(wanted * (1 - wanted) / num)).all()


def test_it_stays_finite_far_out():
    """Log variances are bounded, so images that no decoder has seen cost much, but not all."""
    _, variables, _, eps, call = of("vae of vectors")
    far = jnp.full((4, 2), 1e3)
    loud = jax.tree.map(lambda leaf: 100 * leaf, variables)
    assert np.isfinite(call.path(variables, far, eps).bound).all()
    assert np.isfinite(call.path(loud, far / 1e3, eps).bound).all()
    gamma = call.reconstruct(loud, far / 1e3, eps).gamma
    assert (gamma >= GAMMAS[0] - 1e-3).all()
    assert (gamma <= GAMMAS[1] + 1e-3).all()


def test_within_is_smooth_and_monotone():
    raw = jnp.linspace(-30, 30, 1001)
    values = within(raw, -6.0, 2.0)
    assert (np.diff(values) > -2e-6).all()
    np.testing.assert_allclose(jax.grad(lambda r: within(r, -6.0, 2.0))(jnp.float32(-2)), 1, rtol=1e-6)
    assert values.min() >= -6 - 1e-5
    assert values.max() <= 2 + 1e-5


def test_doubled():
    h = jnp.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(doubled(h, 3, 4)[0, :, :, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]])


@pytest.mark.parametrize(("make", "says"), [
    (lambda: vae(latents=0), "latents=0: must be 1 or more"),
    (lambda: hvae(layers=0), "layers=0: must be 1 or more"),
    (lambda: hvae(latents=-1), "latents=-1: must be 1 or more"),
    (lambda: vae(width=6), "width=6: must be a multiple of 4"),
    (lambda: vae(depth=0), "depth=0: must be 1 or more"),
    (lambda: vae(coder="conv"), r"coder='conv': must be 'mlp' for data of shape \(2,\)"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_noise_of_other_layers_is_refused():
    model, variables, x, eps, _ = of("hvae")
    for wrong in (eps[:2], [jnp.zeros((4, 3))] * 3):
        with pytest.raises(ValueError, match=r"eps has shapes .*: must be \(batch, 2\), \(batch, 2\), \(batch, 2\)"):
            model.path(variables, x, wrong)


def test_a_network_with_other_variables_is_refused():
    class Counting(VAE):
        def setup(self):
            super().setup()
            self.count = self.variable("statistics", "n", lambda: jnp.zeros(()))

    counting = Counting(shape=(3,), latents=2, width=8, depth=1)
    with pytest.raises(ValueError, match="network: has variables statistics; must have parameters alone"):
        LatentModel(counting, (3,), 5).init(KEY)
