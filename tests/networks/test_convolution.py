"""The convolution against Flax's, and the gradients that CPUs compute against JAX's own."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import EPS

from vdm.networks import convolution
from vdm.networks.convolution import Conv, convolve, convolve_in_training, cpu_gradients


def operands(batch: int, height: int, width: int, dtype=jnp.float32):
    """(x, kernel, ∂L/∂y) with 3 channels in and 2 out."""
    shapes = (batch, height, width, 3), (3, 3, 3, 2), (batch, height, width, 2)
    keys = jax.random.split(jax.random.key(batch + height + width), 3)
    return tuple(jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))


def test_it_is_that_of_flax():
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 3))
    theirs = nn.Conv(6, (3, 3))
    variables = theirs.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, Conv(6).init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, variables)
    for train in (False, True):
        np.testing.assert_allclose(Conv(6).apply(variables, x, train), theirs.apply(variables, x), rtol=1e-6, atol=1e-6)


# An image at a time, two, and all at once; of batches that eight devices do and do not divide.
@pytest.mark.parametrize("pixels", [0, 2 * 5 * 4, 10_000])
@pytest.mark.parametrize("shape", [(16, 5, 4), (6, 5, 4), (3, 1, 4), (1, 4, 1)])
def test_gradients(monkeypatch, shape, pixels):
    monkeypatch.setattr(convolution, "PIXELS", pixels)
    x, kernel, dy = operands(*shape)
    expected = jax.vjp(convolve, x, kernel)[1](dy)
    for ours, theirs in zip(cpu_gradients(x, kernel, dy), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=100 * EPS * np.max(np.abs(theirs)))


def test_gradients_in_bfloat16():
    x, kernel, dy = operands(3, 5, 4, jnp.bfloat16)
    for ours, like in zip(cpu_gradients(x, kernel, dy), (x, kernel), strict=True):
        assert (ours.dtype, ours.shape) == (like.dtype, like.shape)


def test_training_takes_them_and_they_can_be_differentiated():
    """As the energy's network is trained: the gradient of a gradient."""
    x, kernel, _ = operands(2, 3, 4)

    def second(f):
        def force(x, kernel):
            return jax.grad(lambda x: jnp.sum(jnp.sin(f(x, kernel))))(x)

        return jax.jit(jax.grad(lambda kernel: jnp.sum(force(x, kernel) ** 2)))(kernel)

    expected = second(convolve)
    np.testing.assert_allclose(
        second(convolve_in_training), expected, rtol=0, atol=200 * EPS * np.max(np.abs(expected))
    )


def layouts(f, platform: str) -> set[str]:
    """How the convolutions of a gradient inside a loop lie in memory, as it is lowered."""
    x, kernel, dy = operands(2, 4, 4)

    def loop(x, kernel, dy):
        def body(i, total):
            return jax.tree.map(jnp.add, total, jax.vjp(f, x * i, kernel)[1](dy))

        return jax.lax.fori_loop(0, 2, body, (x, kernel))

    text = jax.jit(loop).trace(x, kernel, dy).lower(lowering_platforms=(platform,)).as_text()
    return set(re.findall(r"dim_numbers = (\[.*?\]x\[.*?\]->\[.*?\])", text))


def test_on_a_cpu_every_convolution_is_of_the_form_that_is_fast_in_loops():
    plain = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
    assert layouts(convolve_in_training, "cpu") == {plain}
    assert len(layouts(convolve, "cpu")) > 1
    # And a GPU gets what JAX would make of it.
    assert layouts(convolve_in_training, "cuda") == layouts(convolve, "cuda")
