"""The objective of VAEs: its gradients are those of the bound, and what β, warm-up and free bits make of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from vdm import parallel
from vdm.classifier import ClassifierConfig
from vdm.config import OptimizerConfig
from vdm.evaluation.latent_bound import LatentEvaluator
from vdm.predecessors.bound import LatentBound, terms
from vdm.predecessors.hvae import hvae
from vdm.predecessors.vae import vae
from vdm.training.state import init_state, make_optimizer
from vdm.training.step import empty_metrics, make_train_step
from vdm.training.task import Objective, Trainable

KEY = jax.random.key(3)
MODEL = hvae(layers=2, latents=2, width=8, depth=1, shape=(3,), levels=5)
VARIABLES = tiny.variables(MODEL)
BATCH = {"image": tiny.images(16, shape=(3,), levels=5)}
BITS = MODEL.num_dims * np.log(2)


def path(variables):
    return MODEL.path(variables, BATCH["image"], MODEL.draw(jax.random.split(KEY)[0], 16))


@jax.jit
def by_term(variables):
    """Gradients of the batch means of reconstruction, rate_1 and rate_2, in bits/dim, by autodiff of each."""

    def of(variables):
        drawn = path(variables)
        return jnp.stack([jnp.mean(term) for term in (drawn.reconstruction, *drawn.rates)]) / BITS

    return of(variables), jax.jacrev(of)(variables)


MEANS, SLOPES = by_term(VARIABLES)
RATES = np.asarray(MEANS[1:]) * BITS
"""In nats."""


def found(objective, num_parts=1, carried=None, mesh=None):
    carried = objective.init() if carried is None else carried
    f = jax.jit(lambda v, c, b: objective.loss_and_gradients(MODEL, v, c, KEY, b, num_parts, mesh))
    return f(VARIABLES, carried, BATCH)


def assert_gradient(gradients, weights):
    """That it is the sum of the terms' with these weights."""
    for mine, slope in zip(jax.tree.leaves(gradients), jax.tree.leaves(SLOPES), strict=True):
        wanted = np.tensordot(np.asarray(weights, np.float32), np.asarray(slope), axes=1)
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_what_the_loop_asks_for():
    assert isinstance(LatentBound(2), Objective)
    assert isinstance(MODEL, Trainable)
    assert terms(2) is terms(2), "a type of its own each time would be another pytree"


def between():
    """A number of free bits that one layer has and the other has not."""
    low, high = sorted(RATES)
    assert high - low > 0.05
    return float((low + high) / 2)


@pytest.mark.parametrize(("options", "step", "weights"), [
    ({}, 0, lambda: (1, 1, 1)),
    ({"beta": 4.0}, 0, lambda: (1, 4, 4)),
    ({"warmup_steps": 10}, 0, lambda: (1, 0, 0)),
    ({"warmup_steps": 10, "beta": 2.0}, 5, lambda: (1, 1, 1)),
    ({"warmup_steps": 10, "beta": 2.0}, 15, lambda: (1, 2, 2)),
    ({"free_bits": "between"}, 0, lambda: (1, *(between() < RATES))),
    ({"free_bits": 1e9}, 0, lambda: (1, 0, 0)),
    ({"free_bits": 1e-9, "beta": 3.0}, 0, lambda: (1, 3, 3)),
])  # fmt: skip
def test_gradients_are_those_of_the_terms_weighted(options, step, weights):
    """Below the free bits a layer's is zero, above it is as without; terms and their sum are the bound's always."""
    options = {name: between() if value == "between" else value for name, value in options.items()}
    found_terms, gradients, carried = found(LatentBound(2, **options), carried={"step": jnp.int32(step)})
    np.testing.assert_allclose(found_terms, MEANS, rtol=1e-5)
    assert_gradient(gradients, weights())
    assert int(carried["step"]) == step + 1


def test_the_same_in_parts_and_on_eight_devices():
    """With free bits, which ask for the means of the whole batch: those of parts lie on either side of λ."""
    objective = LatentBound(2, free_bits=between())
    each = np.asarray(jax.jit(path)(VARIABLES).rates)
    of_parts = each.reshape(2, 4, 4).mean(axis=1)
    assert ((of_parts > between()) != (between() < RATES)[:, None]).any(), "else the test sees nothing"
    whole = found(objective)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(found(objective, num_parts=4)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    mesh = parallel.make_mesh(16, accumulate=2)
    assert mesh.size == 8
    batch = parallel.shard_batch(jax.tree.map(np.asarray, BATCH), mesh)
    f = jax.jit(lambda v, b: objective.loss_and_gradients(MODEL, v, objective.init(), KEY, b, 2, mesh))
    spread = f(jax.device_put(VARIABLES, parallel.replicated(mesh)), batch)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(spread), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_dropout_is_on():
    model = vae(latents=2, width=8, depth=1, dropout=0.5, shape=(3,), levels=5)
    still = dataclasses.replace(model, network=model.network.clone(dropout=0.0))
    variables = tiny.variables(model)
    of = lambda m, v: LatentBound(1).loss_and_gradients(m, v, {"step": jnp.int32(0)}, KEY, BATCH)[0]  # noqa: E731
    dropped, kept = (jax.jit(lambda v, m=m: of(m, v))(variables).reconstruction for m in (model, still))
    assert abs(dropped - kept) > 1e-3


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("standard_promotion")
def test_steps_of_the_loop_carry_the_warm_up():
    """Stopped after two and read again, a run goes on as one of three: to the bit."""
    config = ClassifierConfig(optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0))
    objective, optimizer = LatentBound(2, warmup_steps=4), make_optimizer(config)
    step = jax.jit(make_train_step(MODEL, objective, optimizer, config))
    state = jax.jit(lambda: init_state(MODEL, objective, optimizer, seed=0))()
    metrics = empty_metrics(objective.terms)
    for n in range(3):
        if n == 2:
            read = jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, state))
        state, metrics = step(state, metrics, BATCH)
    assert int(state.proposal["step"]) == 3
    assert type(metrics.bits_per_dim) is terms(2)
    again, _ = step(read, metrics, BATCH)
    cold, _ = step(read._replace(proposal=objective.init()), metrics, BATCH)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    differs = [np.abs(a - b).max() > 0 for a, b in zip(*map(jax.tree.leaves, (state.ema, cold.ema)), strict=True)]
    assert any(differs), "without the steps done, β would begin anew"


RNG = np.random.default_rng(0)
CLUSTERS = np.float32(RNG.choice([-0.7, 0.7], size=(64, 1)) + 0.05 * RNG.normal(size=(64, 2)))
"""Two of vectors."""
SMALL = vae(latents=2, width=16, depth=1, shape=(2,), levels=0)


def trained(beta, free_bits=0.0, steps=200):
    """Variables of a small VAE of the clusters."""
    model, x = SMALL, jnp.asarray(CLUSTERS)
    optimizer = optax.adam(1e-2)
    objective = LatentBound(1, beta, free_bits=free_bits)

    def step(carry, key):
        variables, state = carry
        _, gradients, _ = objective.loss_and_gradients(model, variables, objective.init(), key, {"image": x})
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(variables, updates), state), None

    variables = model.init(KEY)
    (variables, _), _ = jax.lax.scan(step, (variables, optimizer.init(variables)), jax.random.split(KEY, steps))
    return variables


@pytest.mark.usefixtures("standard_promotion")
def test_a_large_beta_collapses_the_posterior_and_free_bits_keep_it():
    """log 2 = 0.69 nats tell which cluster it is; and the evaluation says so, by the number of active units."""
    evaluate = LatentEvaluator(SMALL, parallel.make_mesh(), 64)
    source = [{"image": x} for x in CLUSTERS]
    of_beta = jax.jit(trained)
    kept, collapsed, freed = (
        evaluate(variables, source, KEY, 4)
        for variables in (of_beta(1.0), of_beta(50.0), jax.jit(lambda: trained(50.0, free_bits=0.5))())
    )
    kept_rate, collapsed_rate, freed_rate = (each.nats(each.rates[0].value) for each in (kept, collapsed, freed))
    assert kept_rate > 0.6
    assert collapsed_rate < 0.02
    assert freed_rate > 0.4
    assert kept.active[0] >= 1
    assert collapsed.active == (0,)
    assert freed.active[0] >= 1
