"""Models small enough to compile in a second or two, with variables that are not at their start."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import vdm.model
from vdm.config import Config, DataConfig, NetworkConfig, OptimizerConfig, ScheduleConfig, TrainingConfig


def config(shape: tuple[int, ...] = (4, 4, 1), levels: int = 17, **network: Any) -> Config:
    """A network of 8 channels and one block, a learned schedule of 5 units."""
    return Config(
        data=DataConfig(shape=shape, levels=levels),
        schedule=ScheduleConfig(name="learned_monotone(hidden=5)", gamma_min=-7.0, gamma_max=4.0),
        network=NetworkConfig(**({"channels": 8, "depth": 1, "dropout": 0.0} | network)),
    )


def run_config(folder: Path, steps: int, **training: int) -> Config:
    """A run on the embedded digits: `steps` steps of 8 images, no samples.

    A DiT of 4 channels compiles in half of a U-Net's time.
    """
    rest = {"batch_size": 8, "checkpoint_every": 2, "sample_every": 0} | training
    return Config(
        data=DataConfig(name="digits", data_dir=str(folder / "data")),
        network=NetworkConfig(name="dit", channels=4, depth=1, dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=2),
        training=TrainingConfig(steps=steps, **rest),
    )


PART_CONTEXT = {
    "gamma_min": -7.0,
    "gamma_max": 4.0,
    "shape": (8, 8, 3),
    "levels": 17,
    "classes": 3,
    "vocabulary": 257,
    "channels": 8,
    "width": 8,
    "depth": 1,
    "rate": lambda step: 0.1,
}
"""What constructors of parts are given of a config and its data."""


class Cut(Exception):
    """Stands for a kill."""


def model(*args: Any, **kwargs: Any) -> vdm.model.Model:
    return vdm.model.from_config(config(*args, **kwargs))


class Pixelwise(nn.Module):
    """Compiled in no time: two layers on each pixel and γ, and what Flax's own layers have for another type."""

    dtype: Any = None

    @nn.compact
    def __call__(self, z: Any, gamma: Any, condition: Any = None, train: bool = False) -> Any:
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None, None, None]
        h = jnp.concatenate([z, jnp.sin(gamma) + 0 * z, jnp.cos(gamma) + 0 * z], axis=-1)
        h = nn.tanh(nn.Dense(8, dtype=self.dtype)(h))
        return z + nn.Dense(z.shape[-1], dtype=self.dtype)(h).astype(jnp.float32)


def pixelwise() -> vdm.model.Model:
    """The model with that network."""
    return dataclasses.replace(model(), network=Pixelwise())


def variables(model: vdm.model.Model, seed: int = 0) -> vdm.model.Variables:
    """Variables off their start."""
    return perturbed(jax.jit(model.init)(jax.random.key(seed)), seed)


def perturbed(tree: Any, seed: int = 0, scale: float = 0.3) -> Any:
    """Every leaf moved by noise: no zero-initialised layer, no symmetric start."""
    leaves, treedef = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    noise = [scale * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return jax.tree.unflatten(treedef, [jnp.asarray(a + b) for a, b in zip(leaves, noise, strict=True)])


def random_variables(shapes: Any, seed: int = 0) -> Any:
    """Random values for the shapes that `jax.eval_shape` gives of a network's variables; scales are about 1."""

    def draw(path: Any, shape: Any) -> jax.Array:
        center = 1.0 if path[-1] == jax.tree_util.DictKey("scale") else 0.0
        return jnp.asarray(center + 0.3 * rng.normal(size=shape.shape), jnp.float32)

    rng = np.random.default_rng(seed)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def images(num: int, shape: tuple[int, ...] = (4, 4, 1), levels: int = 17, seed: int = 0) -> jax.Array:
    """Random integer images, uint8."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, levels, size=(num, *shape)), jnp.uint8)
