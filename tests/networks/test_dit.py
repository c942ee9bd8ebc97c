"""The diffusion transformer: a block against float64 by hand, its symmetries, its size against the published one."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conditional import LABEL
from oracle import f64

from vdm import schedules
from vdm.model import Model
from vdm.networks import DiT, dit
from vdm.networks.dit import TransformerBlock, image, patches, positions
from vdm.speed import forward_flops


def test_a_block_is_that_of_peebles_and_xie():
    """adaLN-zero: scales and shifts after a normalisation of each token, gates before the sums; two heads."""
    block = TransformerBlock(2, 3.0, 0.0)
    x, cond = jax.random.normal(jax.random.key(0), (2, 5, 8)), jax.random.normal(jax.random.key(1), (2, 6))
    variables = tiny.random_variables(jax.eval_shape(lambda: block.init(jax.random.key(2), x, cond, False)))
    params = jax.tree.map(f64, variables["params"])

    def layer(name: str, h: np.ndarray) -> np.ndarray:
        return h @ params[name]["kernel"] + params[name]["bias"]

    def norm(h: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        h = (h - h.mean(axis=-1, keepdims=True)) / np.sqrt(h.var(axis=-1, keepdims=True) + 1e-6)
        return (1 + a) * h + b

    a_1, b_1, g_1, a_2, b_2, g_2 = np.split(layer("condition", f64(cond))[:, None], 6, axis=-1)
    h = norm(f64(x), a_1, b_1)
    query, key, value = (layer(name, h).reshape(2, 5, 2, 4).transpose(0, 2, 1, 3) for name in ("query", "key", "value"))
    weights = np.exp(query @ key.swapaxes(2, 3) / 2)
    h = (weights / weights.sum(axis=-1, keepdims=True) @ value).transpose(0, 2, 1, 3).reshape(2, 5, 8)
    x_1 = f64(x) + g_1 * layer("out", h)
    h = layer("hidden", norm(x_1, a_2, b_2))
    # GELU by the hyperbolic tangent (Hendrycks & Gimpel 2016).
    h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    expected = x_1 + g_2 * layer("perceptron", h)
    ours = jax.jit(block.apply, static_argnums=3)(variables, x, cond, False)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_patches_are_the_pixels_of_the_image(patch):
    x = jnp.arange(2 * 6 * 12 * 3.0).reshape(2, 6, 12, 3)
    tokens = patches(x, patch)
    assert tokens.shape == (2, 72 // patch**2, 3 * patch**2)
    np.testing.assert_array_equal(image(tokens, (6, 12), patch), x)
    # The second of the first row.
    np.testing.assert_array_equal(tokens[1, 1].reshape(patch, patch, 3), x[1, :patch, patch : 2 * patch])


def test_positions():
    """sin and cos of place/10000^(k/n), n = channels/4: first of the column, then of the row."""
    table = positions(3, 5, 8)
    frequencies = np.array([1, 1e-2])
    for row, column in ((0, 0), (2, 1), (1, 4)):
        angles = np.outer([column, row], frequencies)
        expected = np.concatenate([np.sin(angles[0]), np.cos(angles[0]), np.sin(angles[1]), np.cos(angles[1])])
        np.testing.assert_allclose(table[5 * row + column], expected, atol=1e-6)


def test_without_positions_the_network_follows_a_permutation_of_patches(monkeypatch):
    """With them it does not."""
    network = DiT(channels=8, depth=2, gamma_min=-7.0, gamma_max=4.0, patch=2, heads=2, fourier=(1, 2), mlp_ratio=2.0)
    z, gamma = jax.random.normal(jax.random.key(0), (2, 4, 6, 2)), jnp.array([-3.0, 1.0])
    variables = tiny.random_variables(jax.eval_shape(network.init, jax.random.key(0), z, gamma))
    order = np.random.default_rng(0).permutation(6)

    def permuted(x: jax.Array) -> jax.Array:
        return image(patches(x, 2)[:, order], (4, 6), 2)

    def difference() -> float:
        both = network.apply(variables, jnp.concatenate([z, permuted(z)]), jnp.concatenate([gamma, gamma]))
        return float(np.max(np.abs(permuted(both[:2]) - both[2:])))

    assert difference() > 1e-2
    monkeypatch.setattr("vdm.networks.dit.positions", lambda rows, columns, size: np.zeros((rows * columns, size), "f"))
    assert difference() < 1e-4


def of_latents(width: int, depth: int, heads: int, side: int = 32) -> Model:
    """The published networks see 4 channels of a side of 32, of images of 256×256; with no Fourier features."""
    network = DiT(width, depth, -7.0, 4.0, heads=heads, fourier=(), classes=1000)
    return Model(schedules.linear(-7.0, 4.0), network, (side, side, 4), 256, condition=LABEL, condition_dropout=0.1)


def of_depth(depth: int, count: Callable[[int], int]) -> int:
    """Each block adds the same: one and two tell what all are, in less time."""
    one, two = count(1), count(2)
    return one + (depth - 1) * (two - one)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"), [(768, 12, 12, 130), (1024, 24, 16, 458), (1152, 28, 16, 675)]
)
def test_number_of_parameters(width, depth, heads, millions):
    """DiT-B/2, L/2 and XL/2 in Table 4 of Peebles & Xie (2023), which have an output for the variance too."""

    def count(depth: int) -> int:
        shapes = jax.eval_shape(of_latents(width, depth, heads).init, jax.random.key(0))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["network"]))

    variance = 2 * 2 * 4 * (width + 1)
    assert round((of_depth(depth, count) + variance) / 1e6) == millions


@pytest.mark.parametrize(("side", "billions"), [(32, 119), (64, 525)])
def test_flops(side, billions):
    """Multiply-adds of DiT-XL/2 as published; with four times the tokens, attention has sixteen times the products."""
    flops = of_depth(28, lambda depth: forward_flops(of_latents(1152, depth, 16, side)))
    assert round(flops / 2e9) == billions


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"channels": 6}, "channels=6: must be a multiple of 4"),
        ({"heads": 5}, "heads=5: must be a divisor of channels=768"),
        ({"patch": 0}, "patch=0: must be 1 or more"),
        ({"patch": 3}, "patch=3: must divide the images' height and width, 64×64"),
        ({"mlp_ratio": 0.001}, r"mlp_ratio=0.001: must be such that 1 ≤ mlp_ratio · channels < 2²⁰"),
    ],
)
def test_sizes_that_do_not_go_together(arguments, says):
    with pytest.raises(ValueError, match=says):
        dit.dit(**arguments)


def test_an_image_that_does_not_divide():
    with pytest.raises(ValueError, match="patch=2: must divide the images' height and width, 4×3"):
        DiT(8, 1, -7.0, 4.0).init(jax.random.key(0), jnp.zeros((1, 4, 3, 1)), jnp.zeros(1))
