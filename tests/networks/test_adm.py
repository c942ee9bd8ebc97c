"""The U-Net with downsampling: its blocks against float64 by hand, its size against the published one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from oracle import f64

from vdm.networks import ADM, attention
from vdm.networks.adm import AdaptiveBlock, adm, doubled, halved
from vdm.networks.convolution import Conv


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def group_norm(x: np.ndarray, params: dict, groups: int) -> np.ndarray:
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, groups, -1)
    x = (x - x.mean(axis=(1, 2, 4), keepdims=True)) / np.sqrt(x.var(axis=(1, 2, 4), keepdims=True) + 1e-6)
    return x.reshape(batch, height, width, channels) * params["scale"] + params["bias"]


def convolution(x: np.ndarray, params: dict) -> np.ndarray:
    """3×3, a sum over nine shifted images."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = (padded[:, i : i + height, j : j + width] @ params["kernel"][i, j] for i in range(3) for j in range(3))
    return sum(shifted) + params["bias"]


def resampled(x: np.ndarray, resample: str | None) -> np.ndarray:
    if resample == "half":
        return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    return x if resample is None else np.kron(x, np.ones((1, 2, 2, 1)))


@pytest.mark.parametrize("resample", [None, "half", "double"])
def test_a_block_is_what_dhariwal_and_nichol_describe(resample):
    """AdaGN(h, y) = y_s GroupNorm(h) + y_b (§3.1), y_s = 1 + a; resolutions change before the first convolution."""
    block = AdaptiveBlock(8, 0.0, groups=2, resample=resample)
    x, cond = jax.random.normal(jax.random.key(0), (2, 4, 6, 4)), jax.random.normal(jax.random.key(1), (2, 5))
    variables = tiny.random_variables(jax.eval_shape(lambda: block.init(jax.random.key(2), x, cond, False)))
    params = jax.tree.map(f64, variables["params"])
    h = swish(group_norm(f64(x), params["norm_0"], 2))
    h = convolution(resampled(h, resample), params["conv_0"])
    a, b = np.split(
        (f64(cond) @ params["condition"]["kernel"] + params["condition"]["bias"])[:, None, None], 2, axis=-1
    )
    h = convolution(swish((1 + a) * group_norm(h, params["norm_1"], 2) + b), params["conv_1"])
    expected = resampled(f64(x), resample) @ params["shortcut"]["kernel"] + params["shortcut"]["bias"] + h
    ours = jax.jit(block.apply, static_argnums=3)(variables, x, cond, False)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_halving_undoes_doubling():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    np.testing.assert_array_equal(halved(doubled(x)), x)


def test_a_convolution_with_a_stride_is_every_second_pixel_of_the_convolution():
    """Those at the odd places, as XLA pads; in training too, and so is its gradient."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    variables = Conv(5).init(jax.random.key(1), x)
    every = Conv(5).apply(variables, x)[:, 1::2, 1::2]
    for train in (False, True):
        np.testing.assert_allclose(Conv(5, stride=2).apply(variables, x, train), every, rtol=1e-5, atol=1e-5)
    ours, theirs = (
        jax.grad(lambda v, layer=layer: jnp.sum(jnp.sin(layer(v))))(variables)["params"]["kernel"]
        for layer in (
            lambda v: Conv(5, stride=2).apply(v, x, True),
            lambda v: Conv(5).apply(v, x)[:, 1::2, 1::2],
        )
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def number_of_parameters(inputs: int, outputs: int, classes: int) -> int:
    """Of Table 11's network for ImageNet 64×64, by hand: kernels, biases and the scales of norms."""
    channels, depth, multipliers, attended = 192, 3, (1, 2, 3, 4), {1, 2, 3}
    size = 4 * channels

    def conv(n: int, m: int) -> int:
        return 9 * n * m + m

    def dense(n: int, m: int) -> int:
        return n * m + m

    def block(n: int, m: int) -> int:
        shortcut = 0 if n == m else dense(n, m)
        return 2 * n + conv(n, m) + dense(size, 2 * m) + 2 * m + conv(m, m) + shortcut

    def attention(n: int) -> int:
        return 2 * n + 4 * dense(n, n)

    total = dense(channels, size) + dense(size, size) + classes * size
    total += conv(inputs, channels) + 2 * channels + conv(channels, outputs)
    h, skips = channels, [channels]
    for level, multiplier in enumerate(multipliers):
        if level:
            total += block(h, h)
            skips.append(h)
        for _ in range(depth):
            total += block(h, multiplier * channels) + (level in attended) * attention(multiplier * channels)
            h = multiplier * channels
            skips.append(h)
    total += 2 * block(h, h) + attention(h)
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for _ in range(depth + 1):
            total += block(h + skips.pop(), multiplier * channels)
            total += (level in attended) * attention(multiplier * channels)
            h = multiplier * channels
        total += block(h, h) if level else 0
    return total


def test_number_of_parameters_of_the_imagenet_64_network():
    """By hand it is the published 296M: without Fourier features, and with an output for the variance too.

    Ours is the same but for these ends, and with the learned vector for a dropped label.
    """
    assert round(number_of_parameters(3, 6, 1000) / 1e6) == 296
    network = adm(channels=192, depth=3, heads=3, groups=32, classes=1000)
    assert network.attention_at == (32, 16, 8)
    condition = {"label": jnp.zeros(1, jnp.int32), "dropped": jnp.zeros(1, bool)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1), condition)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert count == number_of_parameters(3 * 5, 3, 1001)


def test_heads_have_the_same_size_at_every_level(monkeypatch):
    seen, attend = [], attention.attend
    monkeypatch.setattr(attention, "attend", lambda q, k, v, mask: seen.append(q.shape[1:]) or attend(q, k, v, mask))
    network = adm(channels=16, depth=1, multipliers=(1, 2, 3), shape=(8, 4, 1), levels=17, heads=2, attention_at=(4,))
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 4, 1)), jnp.zeros(1))
    # At level 1 one on the way down and two up, of 4 × 2 pixels; in between the middle one, of 2 × 1.
    assert seen == [(8, 4, 8), (2, 6, 8), (8, 4, 8), (8, 4, 8)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"multipliers": ()}, r"multipliers=\(\): must be whole numbers from 1"),
        ({"multipliers": (1, 0)}, r"multipliers=\(1, 0\): must be whole numbers from 1"),
        ({"shape": (12, 8, 3)}, r"multipliers: 4 need a height and width that are multiples of 8; found 12×8"),
        ({"attention_at": (15,)}, r"attention_at=\(15,\): must be among the sides of the levels, \(64, 32, 16, 8\)"),
        ({"heads": 5}, "heads=5: must be a divisor of channels=192"),
        ({"groups": 5}, "groups=5: must be a divisor of channels=192, or None"),
    ],
)
def test_sizes_that_do_not_go_together(arguments, says):
    with pytest.raises(ValueError, match=says):
        adm(**arguments)


def test_an_image_that_does_not_divide():
    network = ADM(channels=4, depth=1, gamma_min=-7.0, gamma_max=4.0, multipliers=(1, 2))
    with pytest.raises(ValueError, match="2 need a height and width that are multiples of 2; found 4×3"):
        network.init(jax.random.key(0), jnp.zeros((1, 4, 3, 1)), jnp.zeros(1))
