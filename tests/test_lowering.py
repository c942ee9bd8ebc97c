"""Everything that runs on a device lowers for CUDA and TPU at the paper's sizes; nothing is allocated or compiled.

A deeper network repeats its blocks, of the same shapes: two of them a side are lowered each time, the paper's 32 and 64
if asked for.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import ShapeDtypeStruct, export

from configs import cifar10, imagenet64
from vdm import model as model_lib
from vdm import parts, predictions
from vdm.config import Config
from vdm.evaluation.bound import image_bounds
from vdm.evaluation.images import ModelSampling
from vdm.evaluation.metrics.extractors import inception
from vdm.model import Model
from vdm.training.objective import Objective
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, make_train_step

BATCH = 128
KEY = jax.eval_shape(lambda: jax.random.key(0))
INT = ShapeDtypeStruct((), jnp.int32, weak_type=True)


def assert_lowers(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    """One module for both, without a call of what is compiled into jaxlib (LAPACK) or of Python.

    Returns the abstract results.
    """
    exported = export.export(jax.jit(function, **kwargs), platforms=["cuda", "tpu"])(*args)
    assert exported.platforms == ("cuda", "tpu")
    module = exported.mlir_module()
    assert "stablehlo.convolution" in module
    assert re.findall(r"custom_call @(\w+)|(?:infeed|outfeed|send|recv)\"?\(", module) == []
    return jax.tree.unflatten(exported.out_tree, exported.out_avals)


def batch(model: Model) -> dict[str, ShapeDtypeStruct]:
    return {"image": ShapeDtypeStruct((BATCH, *model.shape), jnp.uint8)}


def same(tree: Any, other: Any) -> bool:
    leaves, others = jax.tree.leaves(tree), jax.tree.leaves(other)
    return [(x.shape, x.dtype) for x in leaves] == [(x.shape, x.dtype) for x in others]


@pytest.mark.parametrize("depth", [2, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", [cifar10, imagenet64])
def test_training_evaluation_and_every_sampler(file: ModuleType, depth: int | None) -> None:
    config: Config = file.get_config()
    config.network.depth = depth or config.network.depth
    model, optimizer = model_lib.from_config(config), make_optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        state, metrics = (
            jax.eval_shape(lambda: init_state(model, Objective(), optimizer, 0)),
            jax.eval_shape(empty_metrics),
        )
        step = make_train_step(model, Objective(), optimizer, config)
        after = assert_lowers(step, state, metrics, batch(model), donate_argnums=(0, 1))
    assert same(after, (state, metrics))

    indexed = {"index": ShapeDtypeStruct((BATCH,), jnp.int32), "offset": ShapeDtypeStruct((BATCH,), jnp.float32)}
    evaluate = functools.partial(image_bounds, model)
    bound, *_ = assert_lowers(evaluate, state.ema, KEY, batch(model) | indexed, INT, INT)
    assert [term.shape for term in bound] == [(BATCH,)] * 3

    shared = Traced(**vars(model))
    for name in parts.names("sampler"):
        # Each way to decode with some of them.
        decode = parts.names("decoding")[parts.names("sampler").index(name) % 3]
        settings = dataclasses.replace(config.sampling, sampler=name, decode=decode)
        sample = functools.partial(ModelSampling(shared, None, settings).images, num=BATCH)
        images, _, bad_step = assert_lowers(sample, state.ema, KEY, INT)
        assert (images.shape, bad_step.shape) == ((BATCH, *model.shape), (BATCH,))


class Traced(Model):
    """The model, whose network is traced and lowered once for all samplers: it is what takes the time."""

    def denoiser(self, variables: Any, condition: Any = None, dropout_key: Any = None) -> predictions.Both:
        return functools.partial(_predict, self, variables)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model: Model, variables: Any, z: jax.Array, gamma: jax.Array) -> predictions.Prediction:
    return Model.denoiser(model, variables)(z, gamma)


def test_inception() -> None:
    """Features of images that are not of the network's size."""
    images = ShapeDtypeStruct((BATCH, 32, 32, 1), jnp.uint8)
    outputs = tuple(inception.OUTPUTS)
    found: Any = assert_lowers(functools.partial(inception.apply, outputs=outputs), inception.shapes(), images)
    assert {name: x.shape for name, x in found.items()} == {k: (BATCH, n) for k, n in inception.OUTPUTS.items()}


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_products_of_a_training_step(precision: str) -> None:
    """A CUDA program has three times the convolutions of the forward pass, those of blocks in the precision's type.

    All products are marked for TF32 or against it. There are two convolutions in each of 2D + 3 blocks and one at each
    end. Depth 1: more is the same again.
    """
    config = cifar10.get_config()
    config.network.depth, config.training.precision = 1, precision
    model, optimizer = model_lib.for_training(config), make_optimizer(config)
    with jax.numpy_dtype_promotion("standard"):
        state = jax.eval_shape(lambda: init_state(model, Objective(), optimizer, 0))
        step = jax.jit(make_train_step(model, Objective(), optimizer, config))
        lowered = step.trace(state, jax.eval_shape(empty_metrics), batch(model)).lower(lowering_platforms=("cuda",))
    lines = lowered.as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution(" in line]
    products = [line for line in lines if "stablehlo.dot_general " in line]
    in_blocks = [line for line in convolutions if "bf16" in line]
    assert len(convolutions) == 3 * (2 * 5 + 2)
    assert len(in_blocks) == (3 * 2 * 5 if precision == "bfloat16" else 0)
    mark = "HIGHEST" if precision == "float32" else "HIGH"
    assert {mark} == {word for line in convolutions for word in re.findall(r"precision (\w+)>", line)}
    assert {mark} == {word for line in products for word in re.findall(r"precision = \[(\w+), ", line)}
