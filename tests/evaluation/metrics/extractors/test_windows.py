"""Convolutions and pools against their definitions, pixel by pixel."""

import jax.numpy as jnp
import numpy as np
import pytest

from vdm.evaluation.metrics.extractors.windows import average_pool, convolve, max_pool

X = np.random.default_rng(0).normal(size=(2, 7, 9, 4)).astype(np.float32)


def windows(x: np.ndarray, rows: int, columns: int, stride: int, padding: str) -> np.ndarray:
    """(batch, height, width, channels, rows, columns); NaN where there is no pixel."""
    x = x.astype(np.float64)
    if padding == "SAME":
        edges = ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0))
        x = np.pad(x, edges, constant_values=np.nan)
    return np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(1, 2))[:, ::stride, ::stride]


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("rows", "columns", "stride"), [(1, 1, 1), (3, 3, 1), (5, 5, 1), (1, 7, 1), (7, 1, 1), (3, 3, 2)]
)
def test_convolutions(rows: int, columns: int, stride: int, padding: str) -> None:
    kernel = np.random.default_rng(1).normal(size=(rows, columns, 4, 5)).astype(np.float32)
    expected = np.einsum("nhwirc,rcio->nhwo", np.nan_to_num(windows(X, rows, columns, stride, padding)), kernel)
    found = convolve(jnp.asarray(X), jnp.asarray(kernel), stride, padding)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_averages_count_no_padding() -> None:
    expected = np.nanmean(windows(X, 3, 3, 1, "SAME"), axis=(-2, -1))
    np.testing.assert_allclose(average_pool(jnp.asarray(X)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "VALID")])
def test_maxima(stride: int, padding: str) -> None:
    """Also where all are negative."""
    expected = np.nanmax(windows(X - 5, 3, 3, stride, padding), axis=(-2, -1))
    np.testing.assert_array_equal(max_pool(jnp.asarray(X - 5), stride, padding), expected.astype(np.float32))
