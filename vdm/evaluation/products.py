"""Convolutions as matrix products, for cases where XLA's result on CPUs depends on the number of threads.

Observed in jaxlib 0.10 and 0.12: a convolution with at most `NARROW` channels on both sides, or with a dilated input,
is computed by Eigen, which splits its sums by the number of threads. Other convolutions are computed by YNNPACK, as
matrix products are, and do not depend on it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.core import primitives
from jaxtyping import Array

NARROW = 16
"""Number of channels."""


def by_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function of arrays, with these convolutions computed as products of patches.

    >>> def convolve(x, kernel):
    ...     return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    >>> x, kernel = np.ones((1, 4, 4, 3), np.float32), np.ones((3, 3, 3, 2), np.float32)
    >>> "conv_general_dilated" in str(jax.make_jaxpr(by_products(convolve))(x, kernel))
    False
    """

    def rewritten(*arguments: Any) -> Any:
        program, like = jax.make_jaxpr(function, return_shape=True)(*arguments)
        return jax.tree.unflatten(jax.tree.structure(like), _evaluated(program, *jax.tree.leaves(arguments)))

    return rewritten


def _evaluated(program: core.ClosedJaxpr, *arguments: Any) -> list[Any]:
    """Return the program's result, with its convolutions, nested ones included, rewritten."""
    jaxpr = program.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *arguments], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
        given, params = list(map(read, equation.invars)), equation.params
        if equation.primitive is primitives.conv_general_dilated_p and _is_eigens(equation):
            results = [_product(*given, **params)]
        else:
            params = equation.primitive.get_bind_params({name: _rewritten(param) for name, param in params.items()})
            results = equation.primitive.bind(*given, **params)
            results = results if equation.primitive.multiple_results else [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.outvars))


def _rewritten(param: Any) -> Any:
    """Rewrite a program among an operation's parameters, as in a scan or a jit; return anything else unchanged."""
    if isinstance(param, tuple):
        return tuple(map(_rewritten, param)) if type(param) is tuple else param
    if not isinstance(param, core.ClosedJaxpr) or "conv_general_dilated" not in str(param):
        return param
    return jax.make_jaxpr(functools.partial(_evaluated, param))(*param.in_avals)


def _is_eigens(equation: Any) -> bool:
    params = equation.params
    (_, in_axis, *_), (out_axis, *_), _ = params["dimension_numbers"]
    channels = equation.invars[0].aval.shape[in_axis], equation.invars[1].aval.shape[out_axis]
    one_group = params["feature_group_count"] == params["batch_group_count"] == 1
    return one_group and (max(channels) <= NARROW or any(size != 1 for size in params["lhs_dilation"]))


def _product(
    x: Array,
    kernel: Array,
    *,
    window_strides: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    lhs_dilation: tuple[int, ...],
    rhs_dilation: tuple[int, ...],
    dimension_numbers: Any,
    precision: Any,
    preferred_element_type: Any,
    **_: Any,
) -> Array:
    """Compute the convolution as one matrix product: the patch at each position times the kernel."""
    of_x, of_kernel, of_out = dimension_numbers
    x = lax.transpose(x, (of_x[0], *of_x[2:], of_x[1]))
    kernel = lax.transpose(kernel, (*of_kernel[2:], of_kernel[1], of_kernel[0]))
    around = [(low, high, dilation - 1) for (low, high), dilation in zip(padding, lhs_dilation, strict=True)]
    x = lax.pad(x, np.zeros((), x.dtype), [(0, 0, 0), *around, (0, 0, 0)])
    window = kernel.shape[:-2]
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(rhs_dilation, window, strict=True)]
    sizes = [(n - r) // stride + 1 for n, r, stride in zip(x.shape[1:-1], reach, window_strides, strict=True)]

    def seen(place: tuple[int, ...]) -> Array:
        """Return what every position sees at one place of the window."""
        starts = [dilation * k for dilation, k in zip(rhs_dilation, place, strict=True)]
        limits = [at + stride * (n - 1) + 1 for at, stride, n in zip(starts, window_strides, sizes, strict=True)]
        return lax.slice(x, (0, *starts, 0), (x.shape[0], *limits, x.shape[-1]), (1, *window_strides, 1))

    patches = lax.concatenate([seen(place) for place in np.ndindex(*window)], x.ndim - 1)
    weights = kernel.reshape(-1, kernel.shape[-1])
    out = lax.dot_general(
        patches, weights, (((x.ndim - 1,), (0,)), ((), ())), precision, preferred_element_type=preferred_element_type
    )
    return lax.transpose(out, np.argsort([of_out[0], *of_out[2:], of_out[1]]))
