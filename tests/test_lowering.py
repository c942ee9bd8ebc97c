"""Everything that runs on a device lowers for CUDA and TPU at the paper's sizes; nothing is allocated or compiled."""

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


@pytest.mark.parametrize("file", [cifar10, imagenet64])
def test_training_evaluation_and_every_sampler(file: ModuleType) -> None:
    config: Config = file.get_config()
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
