"""FID's Inception-v3: the features behind most published numbers of sample quality."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Float

from vdm import precisions
from vdm.evaluation.metrics import weights as weights_lib
from vdm.evaluation.metrics.extractors.extractor import Extractor, eight_bit
from vdm.evaluation.metrics.extractors.inception_layers import InceptionV3
from vdm.evaluation.metrics.extractors.resize import tf1_bilinear

SIDE = 299
"""Side, in pixels, of the images that the network sees."""

OUTPUTS = {"pool": 2048, "logits": 1008, "logits_unbiased": 1008, "spatial": 17 * 17 * 7}

EPS = 0.001
"""Added to the variances in batch normalization."""


def inception(weights: Path | None = None, levels: int = 256) -> Extractor:
    """FID's Inception-v3 (Heusel et al., 2017), with the weights that TensorFlow published on 2015-12-05.

    FID and KID compare "pool", the Inception Score uses "logits_unbiased" (without the last layer's bias), and sFID
    "spatial" (Nash et al., 2021). Raises as `weights.load` does.

    >>> extractor = inception(Path("inception.safetensors"))  # doctest: +SKIP
    >>> images = jnp.zeros((64, 32, 32, 3), jnp.uint8)
    >>> extractor.apply(extractor.variables, images, ("pool",))["pool"].shape  # doctest: +SKIP
    (64, 2048)
    """
    state, digest = weights_lib.load("inception", weights)
    title = "Inception-v3"
    identity = f"{title} of FID, weights {digest}, resized by TensorFlow 1's bilinear rule from {levels} levels"
    return Extractor(title, identity, OUTPUTS, variables(state), functools.partial(apply, levels=levels))


def apply(variables: Any, images: Array, outputs: tuple[str, ...], levels: int = 256) -> dict[str, Array]:
    """See `Extractor.apply`; images may have any size, and one channel or three."""
    return features(variables, seen(images, levels), outputs)


def seen(images: Array, levels: int = 256) -> Float[Array, "batch 299 299 3"]:
    """Prepare images for the network: values in [−1, 1)."""
    return (tf1_bilinear(eight_bit(images, levels), SIDE, SIDE) - 128) / 128


@functools.partial(jax.jit, static_argnames="outputs")
def features(variables: Any, x: Float[Array, "batch 299 299 3"], outputs: tuple[str, ...]) -> dict[str, Array]:
    """Return the network's features; jitted here, so that it compiles once for images of all sizes."""
    with precisions.products(precisions.FLOAT32):
        found: Any = InceptionV3().apply(variables, x)
    return {name: found[name] for name in outputs}


def variables(state: Mapping[str, np.ndarray]) -> Any:
    """Return the network's variables from the tensors of its PyTorch port, with batch normalization folded in.

    A convolution's output y becomes w (y − mean) / √(variance + 0.001) + b. Raises ValueError for a tensor that is
    missing or of another shape.
    """
    made: dict[str, np.ndarray] = {}
    for name, array in traverse_util.flatten_dict(shapes()["params"], sep=".").items():
        layer, _, kind = name.rpartition(".")
        if kind == "kernel":
            make = _linear if len(array.shape) == 2 else _convolution
            kernel, bias = make(state, layer, array.shape)
            made |= {f"{layer}.kernel": kernel, f"{layer}.bias": bias}
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in made.items()}
    return {"params": traverse_util.unflatten_dict(arrays, sep=".")}


@functools.cache
def shapes() -> Any:
    """Return the shapes and types of the variables."""
    blank = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), blank)


def _linear(state: Mapping[str, np.ndarray], layer: str, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    weight = _tensor(state, f"{layer}.weight", shape[::-1])
    return weight.T, _tensor(state, f"{layer}.bias", shape[1:])


def _convolution(state: Mapping[str, np.ndarray], layer: str, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns, inputs, outputs = shape
    weight = _tensor(state, f"{layer}.conv.weight", (outputs, inputs, rows, columns))
    statistics = ("weight", "bias", "running_mean", "running_var")
    scale, shift, mean, variance = (_tensor(state, f"{layer}.bn.{name}", (outputs,)) for name in statistics)
    factor = scale / np.sqrt(variance + EPS)
    return weight.transpose(2, 3, 1, 0) * factor, shift - factor * mean


def _tensor(state: Mapping[str, np.ndarray], name: str, shape: Sequence[int]) -> np.ndarray:
    """Return the tensor in float64."""
    if name not in state:
        raise ValueError(f"no tensor {name}: these are not the weights of FID's Inception-v3")
    if state[name].shape != tuple(shape):
        raise ValueError(f"{name}: is of shape {state[name].shape}; must be {tuple(shape)}")
    return state[name].astype(np.float64)
