"""Model FLOPs of a training step, and the peak FLOP/s of devices: the two ingredients of model FLOPs utilization (MFU).

The convention is that of Chowdhery et al. (2022), "PaLM", §4.1: only the products that the model needs count, a
multiply-add counts as two FLOPs, and a training step as three forward passes. Recomputation (remat) and gradient
accumulation do not count as extra work.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vdm.model import Model

TERA = 1e12


class Peak(NamedTuple):
    """Peak FLOP/s of dense products on a device, by precision; None if its data sheet does not state it."""

    float32: float | None
    tf32: float | None
    bfloat16: float | None


# By the full `device_kind` that JAX reports: a partition of a card (MIG) or a laptop's variant is another device.
# TFLOP/s without sparsity, accumulated in float32. Sources, NVIDIA: data sheets of V100, T4, A100, A30, A10, A40, L4,
# L40S, H100 (SXM, PCIe, NVL), H200 (SXM, NVL) and HGX B200; that of A10G by AWS; for GeForce and RTX A6000 the white
# papers of GA102 and Ada, appendix A. Google: cloud.google.com/tpu/docs, one page each, which state bfloat16 only. A
# device of v2, v3 and 7x is one of a chip's two cores. V100 and T4 compute in float32 where TF32 is requested.
_PEAKS = {
    r"Tesla V100-SXM\d-\d+GB(-LS)?": (15.7, 15.7, None),
    r"Tesla V100-PCIE-\d+GB": (14.0, 14.0, None),
    r"Tesla T4": (8.1, 8.1, None),
    r"NVIDIA A100-(SXM4|SXM|PCIE)-\d+GB|NVIDIA A100 80GB PCIe|A100-(SXM4|PCIE)-\d+GB": (19.5, 156.0, 312.0),
    r"NVIDIA A30": (10.3, 82.0, 165.0),
    r"NVIDIA A10": (31.2, 62.5, 125.0),
    r"NVIDIA A10G": (35.0, 35.0, 70.0),
    r"NVIDIA A40": (37.4, 74.8, 149.7),
    r"NVIDIA RTX A6000": (38.7, 77.4, 154.8),
    r"NVIDIA GeForce RTX 3090": (35.6, 35.6, 71.0),
    r"NVIDIA GeForce RTX 4090": (82.6, 82.6, 165.2),
    r"NVIDIA L4": (30.3, 60.0, 121.0),
    r"NVIDIA L40S": (91.6, 183.0, 362.0),
    r"NVIDIA H100 80GB HBM3|NVIDIA GH200 (120|480)GB": (67.0, 494.5, 989.5),
    r"NVIDIA H100 PCIe": (51.0, 378.0, 756.5),
    r"NVIDIA H100 NVL|NVIDIA H200 NVL": (60.0, 417.5, 835.5),
    r"NVIDIA H200": (67.0, 494.5, 989.5),
    r"NVIDIA B200": (75.0, 1125.0, 2250.0),
    r"TPU v2": (None, None, 23.0),
    r"TPU v3": (None, None, 61.5),
    r"TPU v4": (None, None, 275.0),
    r"TPU v5 lite|TPU v5e": (None, None, 197.0),
    r"TPU v5|TPU v5p": (None, None, 459.0),
    r"TPU v6 lite|TPU v6e": (None, None, 918.0),
    r"TPU7x": (None, None, 1153.5),
}  # fmt: skip


def peak_flops(device_kind: str, precision: str) -> float | None:
    """Return the peak FLOP/s of a device from its data sheet, for dense products; None if unknown, e.g. for CPUs.

    `device_kind` is JAX's name for the device. Raises ValueError for a precision other than float32, tf32 and bfloat16.

    >>> peak_flops("NVIDIA H100 80GB HBM3", "tf32")
    494500000000000.0
    >>> peak_flops("cpu", "float32") is None
    True
    """
    if precision not in Peak._fields:
        raise ValueError(f"precision={precision!r}: must be one of {', '.join(Peak._fields)}")
    for pattern, teraflops in _PEAKS.items():
        if re.fullmatch(pattern, device_kind):
            peak: float | None = getattr(Peak(*teraflops), precision)
            return None if peak is None else peak * TERA
    return None


def forward_flops(model: Model) -> int:
    """Return the FLOPs of the network's convolutions and other products for one image; a multiply-add counts as two.

    They are counted in the network's trace, so this works for any network. Taps of a convolution on padding count too,
    as is usual. For an energy, whose gradient is the prediction, the FLOPs of the gradient are included.

    >>> from vdm import schedules
    >>> from vdm.networks import UNet
    >>> network = UNet(channels=8, depth=1, gamma_min=-10.0, gamma_max=5.0)
    >>> forward_flops(Model(schedules.linear(-10.0, 5.0), network, shape=(4, 4, 1), levels=256))
    264704
    """
    like = jax.ShapeDtypeStruct((1, *model.shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    condition = {name: jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for name, x in model.condition.items()} or None
    params = jax.eval_shape(model.init, jax.random.key(0))["network"]

    def network(params: Any, z: jax.Array, gamma: jax.Array, condition: Any) -> Any:
        def apply(z: jax.Array) -> Any:
            return model.network.apply({"params": params}, z, gamma, condition)

        if model.prediction != "energy":
            return apply(z)
        value, pull_back = jax.vjp(apply, z)
        return pull_back(value)

    return _products(jax.make_jaxpr(network)(params, *like, condition).jaxpr)


def step_flops(model: Model, batch_size: int) -> int:
    """Return the model FLOPs of a training step with `batch_size` images: the backward pass costs two forward passes.

    One of them is for the gradient with respect to the input (z_t in the first layer), one for that of the weights.
    """
    return 3 * batch_size * forward_flops(model)


def _products(jaxpr: Any) -> int:
    """FLOPs of the products in a jaxpr and in the jaxprs inside it; of several branches, the most expensive counts."""
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        size = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            total += 2 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            total += 2 * size * math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]]
        else:
            inner = [_products(each) for each in _jaxprs(params)]
            total += max(inner) if name == "cond" else params.get("length", 1) * sum(inner)
    return total


def _jaxprs(params: dict[str, Any]) -> Iterator[Any]:
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else [value]:
            # A ClosedJaxpr or a Jaxpr.
            jaxpr = getattr(each, "jaxpr", each)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
