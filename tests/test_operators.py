"""Operators of inverse problems against their definitions, in numpy, and against one another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vdm import operators, parts

SHAPE = (6, 8, 3)
TEXTS = ("blur(1.5)", "blur(8)", "downsample(2)", "gray", "missing(0.3, seed=4)", "box(3)")


def made(text: str, shape: tuple[int, ...] = SHAPE) -> operators.Operator:
    operator: operators.Operator = parts.make("operator", text, shape=shape)
    return operator


def noise(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("text", TEXTS)
def test_adjoint_is_the_transposed_of_each_operator(text):
    operator = made(text)
    x, y = noise(0, 3, *SHAPE), noise(1, 3, *operator.measured)
    there = jnp.sum(operator.apply(x) * y, axis=(1, 2, 3))
    back = jnp.sum(x * operators.adjoint(operator, y), axis=(1, 2, 3))
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", TEXTS)
def test_operators_are_linear_and_of_each_example_alone(text):
    operator = made(text)
    x, other = noise(0, 3, *SHAPE), noise(1, 3, *SHAPE)
    assert operator.apply(x).shape == (3, *operator.measured)
    combined = operator.apply(2 * x - 3 * other)
    np.testing.assert_allclose(combined, 2 * operator.apply(x) - 3 * operator.apply(other), atol=1e-5)
    np.testing.assert_allclose(operator.apply(x[1:2]), operator.apply(x)[1:2], atol=1e-6)


@pytest.mark.parametrize("std", [0.01, 0.5, 2.0, 8.0])
def test_blur_keeps_constants_and_the_mean_of_an_image(std):
    operator, x = made(f"blur({std})"), noise(0, 2, *SHAPE)
    np.testing.assert_allclose(operator.apply(jnp.full((1, *SHAPE), 0.7)), 0.7, atol=1e-6)
    np.testing.assert_allclose(operator.apply(x).mean(axis=(1, 2)), x.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(operators.adjoint(operator, x), operator.apply(x), atol=1e-6)


@pytest.mark.parametrize("std", [0.7, 1.0, 2.0])
def test_an_impulse_becomes_a_gaussian_of_the_width_asked_for(std):
    """Of a Gaussian at whole pixels the variance is std² but for e^{−2π² std²}, and what the cut-off takes."""
    impulse = jnp.zeros((1, 33, 33, 1)).at[0, 16, 16, 0].set(1.0)
    blurred = np.asarray(made(f"blur({std})", (33, 33, 1)).apply(impulse))[0, :, :, 0]
    offsets = np.arange(33) - 16
    assert blurred.sum() == pytest.approx(1, abs=1e-6)
    for axis in (0, 1):
        variance = np.sum(blurred.sum(axis=axis) * offsets**2)
        assert variance == pytest.approx(std**2, rel=2e-2)
    wanted = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * std**2))
    np.testing.assert_allclose(blurred, wanted / wanted.sum(), atol=2e-4)


def test_blur_mirrors_at_the_edges():
    """A long image of mirror images, blurred by plain convolution, has the blurred image in its middle."""
    std, side = 2.5, 7
    x = np.random.default_rng(0).normal(size=side)
    kernel = np.exp(-0.5 * (np.arange(-10, 11) / std) ** 2)
    long = np.concatenate([x[::-1], x, x[::-1], x])  # 7 before, and 7 after what is looked at, and more
    long = np.concatenate([x, long])
    wanted = np.convolve(long, kernel / kernel.sum(), mode="same")[2 * side : 3 * side]
    found = made(f"blur({std})", (side, 1, 1)).apply(jnp.asarray(x, jnp.float32).reshape(1, side, 1, 1))
    np.testing.assert_allclose(np.ravel(found), wanted, atol=1e-6)


def test_downsampling_takes_means_of_squares():
    x = np.asarray(noise(0, 2, 4, 6, 3))
    found = made("downsample(2)", (4, 6, 3)).apply(jnp.asarray(x))
    wanted = np.array([[x[:, i : i + 2, j : j + 2].mean(axis=(1, 2)) for j in (0, 2, 4)] for i in (0, 2)])
    np.testing.assert_allclose(found, np.moveaxis(wanted, 2, 0), atol=1e-6)


def test_grey_is_the_luminance_that_pillow_takes():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)
    found = made("gray", (5, 4, 3)).apply(jnp.asarray(pixels, jnp.float32)[None])
    assert np.abs(np.asarray(found)[0, :, :, 0] - wanted).max() <= 0.51  # Pillow rounds


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.97])
def test_missing_hides_the_share_of_pixels_in_all_channels(share):
    operator = made(f"missing({share})")
    known = np.asarray(operator.known)
    assert (~known[..., 0]).sum() == round(share * 48)
    assert (known == known[..., :1]).all()
    assert operators.num_measured(operator) == known.sum()
    x = noise(0, 2, *SHAPE)
    assert np.array_equal(operator.apply(x), np.where(known, x, 0))


def test_a_seed_always_hides_the_same_pixels_and_another_others():
    one, again, other = (np.asarray(made(f"missing(0.5, seed={seed})").known) for seed in (3, 3, 4))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_the_box_is_in_the_middle():
    known = np.asarray(made("box(2)").known)[..., 0]
    assert np.argwhere(~known).tolist() == [[2, 3], [2, 4], [3, 3], [3, 4]]


def test_noise_is_where_something_is_measured():
    x, noisy = noise(0, 200, *SHAPE), noise(1, 200, *SHAPE)
    operator = made("missing(0.5)")
    difference = np.asarray(operators.measure(operator, x, noisy, 0.25) - operator.apply(x))
    assert not difference[:, ~np.asarray(operator.known)].any()
    inside = difference[:, np.asarray(operator.known)]
    assert inside.std() == pytest.approx(0.25, abs=5 * 0.25 / np.sqrt(2 * inside.size))


@pytest.mark.parametrize(("text", "shape", "wrong"), [
    ("blur(0)", SHAPE, "std=0.0: must be above 0 and at most 8 pixels"),
    ("blur(9)", SHAPE, "std=9.0: must be above 0 and at most 8 pixels"),
    ("blur(nan)", SHAPE, "std=nan: must be above 0"),
    ("blur(1)", (7,), "data have shape (7,): must be images"),
    ("downsample(1)", SHAPE, "factor=1: must be 2 or more and divide the sides of images 6×8"),
    ("downsample(4)", SHAPE, "factor=4: must be 2 or more and divide the sides of images 6×8"),
    ("gray", (6, 8, 1), "images have 1 channel: must have 3"),
    ("missing(1)", SHAPE, "share=1.0: must be at least 0 and below 1"),
    ("missing(0.999)", SHAPE, "share=0.999: leaves none of 48 pixels"),
    ("missing(0.5, seed=-1)", SHAPE, "seed=-1: must be from 0"),
    ("box(6)", SHAPE, "size=6: must be from 1 to 5 pixels of images 6×8"),
    ("box(0)", SHAPE, "size=0: must be from 1 to 5"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(text, shape, wrong):
    with pytest.raises(parts.PartError, match=r"must be|leaves none|must have") as caught:
        made(text, shape)
    assert wrong in str(caught.value)
    assert "\n" not in str(caught.value)
