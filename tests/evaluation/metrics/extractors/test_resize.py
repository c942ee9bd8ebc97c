"""TensorFlow 1's bilinear resizing in closed form: pixel i of n is at i · size / n, with no half a pixel."""

import jax.numpy as jnp
import numpy as np
import pytest

from vdm.evaluation.metrics.extractors.resize import tf1_bilinear


@pytest.mark.parametrize(("size", "to"), [(8, 299), (299, 299), (320, 299), (7, 3), (1, 5)])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_ramp_is_read_at_those_positions(size: int, to: int, axis: int) -> None:
    """The value of a pixel is its place, up to the last: linear between, and constant beyond."""
    shape = [1, 4, 4, 1]
    shape[axis] = size
    ramp = np.broadcast_to(np.arange(size, dtype=np.float32).reshape([-1 if k == axis else 1 for k in range(4)]), shape)
    found = tf1_bilinear(jnp.asarray(ramp), *(to if k == axis else 4 for k in (1, 2)))
    expected = np.minimum(np.arange(to) * size / to, size - 1)
    for line in np.moveaxis(np.asarray(found)[0, ..., 0], axis - 1, 1):
        np.testing.assert_allclose(line, expected, rtol=0, atol=4e-7 * size)


def test_the_same_size_changes_nothing() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (2, 9, 7, 3)).astype(np.float32)
    np.testing.assert_array_equal(tf1_bilinear(jnp.asarray(images), 9, 7), images)


def test_half_the_size_is_every_other_pixel() -> None:
    """Nothing is averaged."""
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(tf1_bilinear(jnp.asarray(images), 4, 3), images[:, ::2, ::2])


def test_both_axes_at_once_is_bilinear() -> None:
    """Of x + 2y + 3xy, which is bilinear everywhere."""
    y, x = np.meshgrid(np.arange(5.0), np.arange(4.0), indexing="ij")
    images = jnp.asarray((x + 2 * y + 3 * x * y)[None, :, :, None], jnp.float32)
    found = tf1_bilinear(images, 10, 8)[0, :9, :7, 0]
    y, x = np.meshgrid(np.arange(9) / 2, np.arange(7) / 2, indexing="ij")
    np.testing.assert_allclose(found, x + 2 * y + 3 * x * y, rtol=1e-6)
