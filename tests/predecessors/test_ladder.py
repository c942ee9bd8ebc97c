"""The ladder network against a two-layer case written out in numpy, and its noise, costs and gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vdm import parts
from vdm.predecessors.ladder import EPSILON, Denoiser, ladder
from vdm.predecessors.ladder_costs import LadderCosts, is_labelled, weighted

KEY = jax.random.key(0)
SHAPE, LEVELS, NUM = (2, 3, 1), 17, 12
MODEL = ladder(shape=SHAPE, levels=LEVELS, classes=3, layers=(5, 4), noise=0.4, labelled=0.5, weight=2.0)
CLASSLESS = ladder(shape=SHAPE, levels=LEVELS, layers=(5, 4), noise=0.4, costs=(2.0, 0.5, 0.25))
IMAGE = tiny.images(NUM, SHAPE)
LABEL = jnp.arange(NUM) % 3


@pytest.fixture(scope="module")
def variables():
    return tiny.perturbed(MODEL.init(KEY), scale=0.5)


@pytest.fixture(scope="module")
def classless():
    return tiny.perturbed(CLASSLESS.init(KEY), scale=0.5)


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def written_out(params, x, eps, noise, softmax):
    """(ẑ_t, d_t) of each layer and the top's logits of the noisy path, float64: Algorithm 1 of Rasmus et al. (2015)."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    encoder, num = params["encoder"], len(eps)

    def batch_norm(h):
        return (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + EPSILON)

    def up(std):
        layers, h = [x + std * eps[0]], x + std * eps[0]
        for t in range(1, num):
            z = batch_norm(h @ encoder[f"weights_{t}"]["kernel"]) + std * eps[t]
            top = encoder[f"scale_{t}"] * (z + encoder[f"shift_{t}"])
            h = np.maximum(top, 0)
            layers.append(z)
        return layers, top

    def g(t, z, u):
        def curve(a):
            return a[0] * sigmoid(a[1] * u + a[2]) + a[3] * u + a[4]

        mean, slope = (curve(params[f"denoisers_{t}"][name]) for name in ("mean", "slope"))
        return (z - mean) * slope + mean

    noisy, top = up(noise)
    clean, _ = up(0.0)
    h = np.exp(top) / np.exp(top).sum(axis=1, keepdims=True) if softmax else np.maximum(top, 0)
    denoised = [g(num - 1, noisy[-1], batch_norm(h))]
    for t in reversed(range(num - 1)):
        denoised.insert(0, g(t, noisy[t], batch_norm(denoised[0] @ params[f"feedback_{t}"]["kernel"])))
    return denoised, clean, top


@pytest.mark.parametrize(("of", "name"), [(MODEL, "variables"), (CLASSLESS, "classless")])
def test_costs_are_those_of_a_case_written_out(of, name, request):
    variables = request.getfixturevalue(name)
    eps = of.draw(KEY, NUM)
    x = (2 * np.asarray(IMAGE, np.float64).reshape(NUM, -1) + 1) / LEVELS - 1
    wanted, clean, top = written_out(
        variables["network"], x, [np.asarray(e, np.float64) for e in eps], 0.4, bool(of.labelled)
    )
    found = jax.jit(of)(variables, IMAGE, eps)
    for cost, z, d in zip(found.costs, wanted, clean, strict=True):
        np.testing.assert_allclose(cost, np.mean((z - d) ** 2, axis=1), rtol=2e-4, atol=1e-5)
    terms = weighted(of, variables, {"image": IMAGE, "label": LABEL}, eps)
    for factor, term, cost in zip(of.costs, terms[: len(wanted)], found.costs, strict=True):
        np.testing.assert_allclose(term, factor * cost, rtol=1e-5, atol=1e-6)
    if of.labelled:
        entropy = np.log(np.exp(top).sum(axis=1)) - top[np.arange(NUM), LABEL]
        counts = np.asarray(is_labelled(IMAGE, 0.5))
        assert 0 < counts.sum() < NUM
        np.testing.assert_allclose(terms[-1], np.where(counts, 2.0 * entropy / 0.5, 0), rtol=2e-4, atol=1e-5)


def test_the_noise_of_every_layer_has_the_stated_variance(variables):
    """z_1 of the noisy path is noise around what it is without: with noise on that layer alone."""
    num = 4000
    image, eps = tiny.images(num, SHAPE), MODEL.draw(KEY, num)
    for t in range(len(eps)):
        alone = tuple(each if k == t else jnp.zeros_like(each) for k, each in enumerate(eps))
        found = jax.jit(MODEL)(variables, image, alone)
        # Of n normal values the variance has a relative error of √(2/n).
        noise = np.asarray(found.noisy[t] - found.clean[t], np.float64)
        assert np.mean(noise**2) == pytest.approx(0.4**2, rel=4 * np.sqrt(2 / noise.size))
        assert abs(noise.mean()) < 4 * 0.4 / np.sqrt(noise.size)


def test_without_noise_nothing_is_left_to_denoise():
    """At first g(z, u) = z: what it gives is the clean target itself; with noise it is noise² on average."""
    quiet = dataclasses.replace(MODEL, network=MODEL.network.clone(noise=0.0))
    variables, eps = MODEL.init(KEY), MODEL.draw(KEY, NUM)
    for cost in quiet(variables, IMAGE, eps).costs:
        np.testing.assert_array_equal(cost, 0)
    assert min(float(cost.min()) for cost in MODEL(variables, IMAGE, eps).costs) > 0


def test_g_is_the_best_estimate_of_a_gaussian():
    """Of z = s + n ε with s ~ N(u, 1): E[s|z] = (z − u)/(1 + n²) + u, a case of its curves."""
    curve = jnp.zeros((5, 2)).at[1].set(1.0)
    params = {"mean": curve.at[3].set(1.0), "slope": curve.at[4].set(1 / 1.25)}
    u, z = jnp.array([[0.5, -1.0]]), jnp.array([[2.0, 0.3]])
    np.testing.assert_allclose(Denoiser().apply({"params": params}, z, u), (z - u) / 1.25 + u, rtol=1e-6)


def test_statistics_of_a_batch_normalise_it_as_training_does(variables):
    eps = MODEL.draw(KEY, NUM)
    while_training = MODEL(variables, IMAGE, eps)
    statistics = MODEL.calibrate(variables, IMAGE, eps)
    calibrated = MODEL(variables, IMAGE, eps, statistics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), while_training, calibrated)
    top = jax.nn.log_softmax(while_training.clean_top)
    np.testing.assert_allclose(MODEL.log_prob(variables, statistics, IMAGE), top, rtol=1e-5, atol=1e-6)
    pictures = MODEL.denoise(variables, statistics, IMAGE, eps)
    np.testing.assert_allclose(pictures.reshape(NUM, -1), while_training.denoised[0], rtol=1e-5, atol=1e-6)


def test_given_statistics_an_image_is_alone(variables):
    statistics = MODEL.calibrate(variables, IMAGE, MODEL.draw(KEY, NUM))
    eps = MODEL.draw(jax.random.key(1), NUM)
    whole = MODEL(variables, IMAGE, eps, statistics)
    alone = MODEL(variables, IMAGE[3:5], tuple(each[3:5] for each in eps), statistics)
    for cost, of_two in zip(whole.costs, alone.costs, strict=True):
        np.testing.assert_allclose(cost[3:5], of_two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_a_share_of_the_images_is_labelled(share):
    num = 5000
    image = tiny.images(num, SHAPE)
    found = np.asarray(is_labelled(image, share))
    assert abs(found.mean() - share) <= 4 * np.sqrt(share * (1 - share) / num)
    np.testing.assert_array_equal(is_labelled(image[::-1], share), found[::-1])
    assert not np.any(found & ~np.asarray(is_labelled(image, max(share, 0.5))))
    real = np.asarray(is_labelled(jax.random.normal(KEY, (num, 2)), share))
    assert abs(real.mean() - share) <= 4 * np.sqrt(share * (1 - share) / num)


def test_gradients_reach_everything(variables):
    objective = LadderCosts.of(MODEL)
    batch = {"image": IMAGE, "label": LABEL}
    of = jax.jit(lambda variables: objective.loss_and_gradients(MODEL, variables, {}, KEY, batch))
    terms, gradients, carried = of(variables)
    assert terms._fields == ("cost_0", "cost_1", "cost_2", "cost_3", "cross_entropy")
    assert carried == {}
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.abs(gradient).max() > 1e-6, path
    # The terms add up to what has these gradients: a step along them changes the sum as it should.
    step = 1e-3 / np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients)))
    ends = [sum(of(_moved(variables, gradients, sign * step))[0]) for sign in (-1, 1)]
    slope = float(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients)))
    assert float(ends[1] - ends[0]) / (2 * step) == pytest.approx(slope, rel=0.02)


def _moved(variables, gradients, step):
    return jax.tree.map(lambda a, b: a + jnp.float32(step) * b, variables, gradients)


def test_a_batch_in_parts_is_normalised_part_by_part(classless):
    """Two equal halves: the same numbers as one of them with its noise, by parts of neighbours."""
    objective = LadderCosts.of(CLASSLESS)
    terms, gradients, _ = objective.loss_and_gradients(CLASSLESS, classless, {}, KEY, {"image": IMAGE}, 2)
    eps = CLASSLESS.draw(jax.random.split(KEY)[0], NUM)
    halves = [weighted(CLASSLESS, classless, {"image": IMAGE[k::2]}, tuple(each[k::2] for each in eps)) for k in (0, 1)]
    for term, *parts_of in zip(terms, *halves, strict=True):
        assert float(term) == pytest.approx(float(np.mean(parts_of)), rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_bfloat16_is_close(variables):
    eps = MODEL.draw(KEY, NUM)
    half = MODEL.computed_in("bfloat16")
    assert half.computed_in("float32") == MODEL
    for cost, rounded in zip(MODEL(variables, IMAGE, eps).costs, half(variables, IMAGE, eps).costs, strict=True):
        assert rounded.dtype == jnp.float32
        assert np.mean(rounded) == pytest.approx(float(np.mean(cost)), rel=0.1)


def test_what_has_no_labels_is_refused(variables, classless):
    with pytest.raises(ValueError, match=r"^batch has image: must have 'label'"):
        weighted(MODEL, variables, {"image": IMAGE}, MODEL.draw(KEY, NUM))
    statistics = CLASSLESS.calibrate(classless, IMAGE, CLASSLESS.draw(KEY, NUM))
    with pytest.raises(ValueError, match=r"^labelled=0: the network has no classes"):
        CLASSLESS.log_prob(classless, statistics, IMAGE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ladder(layers=())", r"layers=\(\): must be one or more"),
        ("ladder(layers=(4, 0))", r"layers=\(4, 0\): must be"),
        ("ladder(noise=-1)", r"noise=-1\.0: must be 0 or more"),
        ("ladder(labelled=2)", r"labelled=2\.0: must be from 0 to 1"),
        ("ladder(labelled=0.5)", r"labelled=0\.5: the data have no classes; must be 0"),
        ("ladder(layers=(4,), costs=(1, 2, 3))", r"costs=\(1\.0, 2\.0, 3\.0\): must be 2 numbers"),
        ("ladder(layers=(4,), costs=(1, nan))", r"costs=\(1\.0, nan\): must be 2 numbers"),
        ("ladder(weight=-1)", r"weight=-1\.0: must be 0 or more"),
    ],
)
def test_what_no_ladder_could_have_is_refused(text, words):
    with pytest.raises(parts.PartError, match=words):
        parts.make("predecessor", text, shape=SHAPE, levels=LEVELS, classes=None)
