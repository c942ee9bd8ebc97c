"""Classes of images that are Gaussian, and a network for them that is exact with the label, without it, and dropped."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct

from vdm import gaussian, oracles, schedules
from vdm.model import Model, Variables

SHAPE, LEVELS, NUM, STD = (4, 4, 1), 17, 3, 0.3
MEANS = 0.5 * np.random.default_rng(0).normal(size=(NUM, *SHAPE))
"""Of each class; all are as frequent."""
ORACLE = oracles.mixture(np.ones(NUM) / NUM, MEANS, np.full(NUM, STD))
LABEL = {"label": ShapeDtypeStruct((), jnp.int32)}


class Classes(nn.Module):
    """x̂ of images of class c, N(m_c, `STD`²); of all classes where the label is dropped or there is none."""

    classes: int = NUM

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        means = self.param("means", nn.initializers.normal(0.5), (self.classes, *z.shape[1:]))[None]
        gamma = gaussian.expand(jnp.broadcast_to(gamma, z.shape[:1]), z)[:, None]
        alpha, total = gaussian.alpha(gamma), STD**2 * jax.nn.sigmoid(-gamma) + jax.nn.sigmoid(gamma)
        difference = z[:, None] - alpha * means
        guesses = means + alpha * STD**2 / total * difference
        axes = tuple(range(2, guesses.ndim))
        posterior = nn.softmax(-jnp.sum(difference**2 / (2 * total), axis=axes), axis=1)
        mixed = jnp.einsum("bk,bk...->b...", posterior, guesses)
        if condition is None:
            return mixed
        own = guesses[jnp.arange(z.shape[0]), condition["label"]]
        if "dropped" not in condition:
            return own
        return jnp.where(condition["dropped"].reshape(-1, *(1,) * (z.ndim - 1)), mixed, own)


class Classifier:
    """log p(c|z_γ) of the exact model: as a classifier of the library is called."""

    def __init__(self, shape: tuple[int, ...] = SHAPE, classes: int = NUM):
        self.shape, self.classes = shape, classes

    def log_prob(self, variables, z, gamma):
        exact = ORACLE.log_posterior(z, gamma)
        return variables["one"] * jnp.concatenate([exact] * (1 + self.classes // NUM), axis=1)[:, : self.classes]


CLASSIFIER = {"one": np.float32(1)}
"""Its variables."""


def model(dropout: float = 0.1, prediction: str = "x", condition=LABEL) -> Model:
    schedule = schedules.linear(-8.0, 6.0)
    return Model(schedule, Classes(), SHAPE, LEVELS, prediction, condition=condition, condition_dropout=dropout)


def exact() -> Variables:
    return {"network": {"means": jnp.asarray(MEANS, jnp.float32)}, "schedule": {}, "likelihood": {}}


def worse() -> Variables:
    """A model of means that are half as far apart."""
    return exact() | {"network": {"means": jnp.asarray(0.5 * MEANS, jnp.float32)}}
