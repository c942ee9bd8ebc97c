"""The training step: its gradients are those of the bound and of its variance, and it says when they fail."""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vdm import parallel, parts, proposals, schedules, timesteps, weightings
from vdm.config import TrainingConfig
from vdm.model import Bound, Model
from vdm.training.objective import Objective, loss_and_gradients
from vdm.training.state import TrainState, init_state, make_optimizer
from vdm.training.step import Metrics, empty_metrics, jit_train_steps, make_train_step

NUM = 16
DIMS = 16  # 4 × 4 × 1
LOG2 = np.log(2)
KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def config():
    config = tiny.config(name="dit", dropout=0.2)
    config.optimizer.warmup_steps = 0
    config.optimizer.learning_rate = 1e-3
    return config


@pytest.fixture(scope="module")
def model():
    return tiny.model(name="dit", dropout=0.2)


@pytest.fixture(scope="module")
def variables(model):
    return tiny.variables(model)


@pytest.fixture(scope="module")
def batch():
    return {"image": tiny.images(NUM)}


@pytest.fixture(scope="module")
def train_step(model, config):
    with jax.numpy_dtype_promotion("standard"):
        return jax.jit(make_train_step(model, Objective(), make_optimizer(config), config))


@pytest.fixture(scope="module")
def state(model, config, variables):
    with jax.numpy_dtype_promotion("standard"):
        fresh = init_state(model, Objective(), make_optimizer(config), seed=0)
    return fresh._replace(variables=variables, ema=jax.tree.map(jnp.copy, variables))


@pytest.fixture(scope="module")
def loss(model):
    """Compiled (variables, key, batch) -> (bound, gradients) of the step."""
    return jax.jit(lambda variables, key, batch: loss_and_gradients(model, Objective(), variables, {}, key, batch)[:2])


@pytest.fixture(scope="module")
def gradients(model, loss, variables, batch):
    """(ours, direct): the step's (bound, gradients), and plain `jax.grad` through the whole loss with γ and slope."""
    draw_key, dropout_key = jax.random.split(KEY)
    draws = model.draw(draw_key, NUM)

    def terms(variables):
        gamma_t, slope = schedules.gamma_and_slope(model.schedule, variables["schedule"], draws.t)
        bound = model.bound_at(variables, batch, draws, gamma_t, slope, dropout_key)
        return Bound(*(term / (DIMS * LOG2) for term in bound))

    def both(variables):
        """Gradients of the mean bound and of the mean square of its diffusion term, from one forward pass."""
        bound, pull_back = jax.vjp(terms, variables)
        of_mean = jax.grad(lambda b: jnp.mean(b.total))(bound)
        of_square = jax.grad(lambda b: jnp.mean(b.diffusion**2))(bound)
        return pull_back(of_mean)[0], pull_back(of_square)[0], bound

    return loss(variables, KEY, batch), jax.jit(both)(variables)


def assert_trees_close(ours, theirs, rtol: float) -> None:
    """Leaf by leaf, relative to the leaf's largest entry: sums of float32 terms in two orders.

    Some gradients are 0 (a bias of attention's keys, say, moves nothing): there, relative to the largest of all leaves.
    """
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    largest = max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(theirs))
    for (path, left), right in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        scale = np.max(np.abs(right)) + 1e-3 * largest
        np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=rtol, err_msg=jax.tree_util.keystr(path))


def test_bound_is_the_batch_mean_in_bits_per_dim(gradients):
    (bound, _), (_, _, terms) = gradients
    for ours, theirs in zip(bound, terms, strict=True):
        np.testing.assert_allclose(ours, np.mean(theirs), rtol=1e-4)


def test_network_and_end_points_follow_the_bound(gradients):
    (_, ours), (of_bound, _, _) = gradients
    assert_trees_close(ours["network"], of_bound["network"], rtol=1e-3)
    assert_trees_close(ours["schedule"]["ends"], of_bound["schedule"]["ends"], rtol=1e-3)
    assert ours["likelihood"] == {}
    # They are gradients to speak of.
    for leaf in jax.tree.leaves(ours["schedule"]["ends"]):
        assert abs(leaf) > 1e-4


def test_shape_follows_the_second_moment(gradients):
    (_, ours), (of_bound, of_square, _) = gradients
    assert_trees_close(ours["schedule"]["shape"], of_square["schedule"]["shape"], rtol=1e-3)
    # And this is not the gradient of the bound: the test above could tell.
    for square, bound in zip(*(jax.tree.leaves(g["schedule"]["shape"]) for g in (of_square, of_bound)), strict=True):
        assert np.max(np.abs(square - bound)) > 0.05 * np.max(np.abs(square))


@pytest.mark.parametrize("name", ["sigmoid(2)", "edm"])
def test_a_weighting_moves_the_network_and_the_shape_but_not_the_ends(model, variables, batch, name):
    """Network: the weighted loss; ends: the bound; shape: the second moment of the weighted loss. Plain `jax.grad`."""
    objective = Objective(parts.make("weighting", name))
    draw_key, dropout_key = jax.random.split(KEY)
    draws = model.draw(draw_key, NUM)

    def terms(variables):
        gamma_t, slope = schedules.gamma_and_slope(model.schedule, variables["schedule"], draws.t)
        bound = model.bound_at(variables, batch, draws, gamma_t, slope, dropout_key)
        return jax.tree.map(lambda term: term / (DIMS * LOG2), bound), objective.weighting.weight(-gamma_t)

    def both(variables):
        (bound, w), pull_back = jax.vjp(terms, variables)
        of = lambda f: pull_back(jax.grad(f)((bound, w)))[0]  # noqa: E731
        fixed = jax.lax.stop_gradient(w)
        return (
            of(lambda bw: jnp.mean(bw[0].reconstruction + bw[0].prior + fixed * bw[0].diffusion)),
            of(lambda bw: jnp.mean(bw[0].total)),
            of(lambda bw: jnp.mean((bw[1] * bw[0].diffusion) ** 2)),
            bound,
        )

    of_weighted, of_bound, of_square, terms_ = jax.jit(both)(variables)
    bound, ours = jax.jit(lambda v: loss_and_gradients(model, objective, v, {}, KEY, batch)[:2])(variables)
    np.testing.assert_allclose(bound.total, np.mean(terms_.total), rtol=1e-4)
    assert_trees_close(ours["network"], of_weighted["network"], rtol=1e-3)
    assert_trees_close(ours["schedule"]["ends"], of_bound["schedule"]["ends"], rtol=1e-3)
    assert_trees_close(ours["schedule"]["shape"], of_square["schedule"]["shape"], rtol=1e-3)


def test_a_proposal_changes_the_noise_levels_and_not_the_objective(batch):
    """Loss and gradient are those of the drawn times over their density; the losses without it go to their bins."""
    model = dataclasses.replace(tiny.model(name="dit"), schedule=schedules.learned_linear(-7.0, 4.0))
    objective = Objective(weightings.sigmoid(1.0), proposal=proposals.adaptive())
    variables = tiny.variables(model)
    before = proposals.Histogram(jnp.linspace(10.0, 500.0, proposals.BINS), jnp.full(proposals.BINS, 100.0))
    draw_key, dropout_key = jax.random.split(KEY)
    draws = model.draw(draw_key, NUM)
    t, density = timesteps.importance(draws.t, proposals.probabilities(before, 1))
    assert np.ptp(density) > 0.5

    def terms(variables):
        gamma_t, slope = schedules.gamma_and_slope(model.schedule, variables["schedule"], t)
        bound = model.bound_at(variables, batch, draws, gamma_t, slope / density, dropout_key)
        return jax.tree.map(lambda term: term / (DIMS * LOG2), bound), gamma_t

    def weighted(variables):
        bound, gamma_t = terms(variables)
        w = jax.lax.stop_gradient(jax.nn.sigmoid(1 + gamma_t))
        return jnp.mean(bound.reconstruction + bound.prior + w * bound.diffusion), (bound, w)

    theirs, (bound, w) = jax.jit(jax.grad(weighted, has_aux=True))(variables)
    ends = jax.jit(jax.grad(lambda v: jnp.mean(terms(v)[0].total)))(variables)["schedule"]
    total, ours, after = jax.jit(lambda v, state: loss_and_gradients(model, objective, v, state, KEY, batch))(
        variables, before
    )
    np.testing.assert_allclose(total.diffusion, np.mean(bound.diffusion), rtol=1e-4)
    assert_trees_close(ours["network"], theirs["network"], rtol=1e-3)
    assert_trees_close(ours["schedule"], ends, rtol=1e-3)
    k = np.floor(np.float64(t) * proposals.BINS).astype(int)
    losses = np.bincount(k, w * bound.diffusion * density, proposals.BINS)
    np.testing.assert_allclose(after.total, 0.99 * before.total + losses, rtol=1e-4)
    np.testing.assert_allclose(after.draws, 99 + np.bincount(k, minlength=proposals.BINS), rtol=1e-6)


def test_in_discrete_time_too_the_shape_follows_the_second_moment_and_the_rest_the_bound(model, variables, batch):
    """Against plain `jax.grad` of the T-step loss, whose mean depends on the shape as well."""
    num_steps = 7
    discrete = dataclasses.replace(model, num_steps=num_steps)
    draw_key, dropout_key = jax.random.split(KEY)
    draws = model.draw(draw_key, NUM)

    def terms(variables):
        gamma = functools.partial(model.gamma, variables)
        i = jnp.floor(draws.t * num_steps) + 1
        gamma_t, gamma_s = gamma(i / num_steps), gamma((i - 1) / num_steps)
        weight = num_steps * (jnp.exp(gamma_t - gamma_s) - 1)
        bound = model.bound_at(variables, batch, draws, gamma_t, weight, dropout_key)
        return jax.tree.map(lambda term: term / (DIMS * LOG2), bound)

    def both(variables):
        bound, pull_back = jax.vjp(terms, variables)
        of_mean, of_square = (
            jax.grad(f)(bound) for f in (lambda b: jnp.mean(b.total), lambda b: jnp.mean(b.diffusion**2))
        )
        return pull_back(of_mean)[0], pull_back(of_square)[0], jnp.mean(bound.total)

    of_bound, of_square, value = jax.jit(both)(variables)
    bound, ours = jax.jit(lambda v: loss_and_gradients(discrete, Objective(), v, {}, KEY, batch)[:2])(variables)
    np.testing.assert_allclose(bound.total, value, rtol=1e-4)
    assert_trees_close(ours["network"], of_bound["network"], rtol=1e-3)
    assert_trees_close(ours["schedule"]["ends"], of_bound["schedule"]["ends"], rtol=1e-3)
    assert_trees_close(ours["schedule"]["shape"], of_square["schedule"]["shape"], rtol=1e-3)


@pytest.mark.parametrize("name", ["linear", "learned_linear"])
def test_schedules_without_a_shape_or_without_parameters(name, batch):
    model = Model(
        schedule=getattr(schedules, name)(-7.0, 4.0), network=tiny.model(name="dit").network, shape=(4, 4, 1), levels=17
    )
    variables = jax.eval_shape(model.init, KEY)
    bound, gradients = jax.eval_shape(
        lambda v: loss_and_gradients(model, Objective(), v, {}, KEY, batch)[:2], variables
    )
    assert jax.tree.structure(gradients) == jax.tree.structure(variables)
    assert all(term.shape == () for term in bound)


def test_metrics_are_sums_and_the_key_of_step_n_is_fold_in_n(loss, state, train_step, batch):
    metrics, sums = empty_metrics(), np.zeros(3)
    for n in range(3):
        bound, _ = loss(state.variables, jax.random.fold_in(jax.random.wrap_key_data(state.key), n), batch)
        sums += np.array(bound)
        assert state.step == n
        state, metrics = train_step(state, metrics, batch)
    assert (state.step, metrics.num_steps, metrics.bad_step) == (3, 3, 0)
    np.testing.assert_allclose(np.array(metrics.bits_per_dim), sums, rtol=1e-4)
    assert metrics.grad_norm > 0


def test_a_step_moves_every_variable_and_its_average(state, train_step, batch):
    after, _ = train_step(state, empty_metrics(), batch)
    for (path, old), new, average in zip(
        jax.tree_util.tree_leaves_with_path(state.variables),
        jax.tree.leaves(after.variables),
        jax.tree.leaves(after.ema),
        strict=True,
    ):
        assert np.max(np.abs(new - old)) > 0, jax.tree_util.keystr(path)
        # Update 0: decay (1+0)/(10+0).
        np.testing.assert_allclose(average, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after.key, state.key)


def test_deterministic_and_different_from_step_to_step(state, train_step, batch):
    one, metrics = train_step(state, empty_metrics(), batch)
    again, _ = train_step(state, empty_metrics(), batch)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)
    # Another step number: other times and noise.
    _, later = train_step(state._replace(step=jnp.int32(1)), empty_metrics(), batch)
    assert later.bits_per_dim.diffusion != metrics.bits_per_dim.diffusion


def test_the_same_on_eight_devices(model, variables, gradients, batch):
    """With the batch sharded over them: bound and gradients differ by the order of float32 sums alone."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    loss = jax.jit(lambda v, b: loss_and_gradients(model, Objective(), v, {}, KEY, b)[:2], in_shardings=(whole, split))
    bound, sharded = loss(jax.device_put(variables, whole), jax.device_put(batch, split))
    (expected_bound, expected), _ = gradients
    np.testing.assert_allclose(np.array(bound), np.array(expected_bound), rtol=1e-5)
    assert_trees_close(sharded, expected, rtol=1e-3)


def test_a_proposal_is_the_same_on_eight_devices(batch):
    """Its noise levels are those of the global batch, and its next state is on every device the same."""
    model = dataclasses.replace(tiny.model(name="dit"), schedule=schedules.learned_linear(-7.0, 4.0))
    objective = Objective(proposal=proposals.importance())
    variables = tiny.variables(model)
    state = proposals.Histogram(jnp.linspace(10.0, 500.0, proposals.BINS), jnp.full(proposals.BINS, 100.0))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    f = lambda v, s, b: loss_and_gradients(model, objective, v, s, KEY, b)  # noqa: E731
    bound, gradient, after = jax.jit(f)(variables, state, batch)
    placed = jax.device_put(variables, whole), jax.device_put(state, whole), jax.device_put(batch, split)
    bound_8, gradient_8, after_8 = jax.jit(f)(*placed)
    np.testing.assert_allclose(np.array(bound_8), np.array(bound), rtol=1e-5)
    assert_trees_close(gradient_8, gradient, rtol=1e-3)
    for left, right in zip(jax.tree.leaves(after_8), jax.tree.leaves(after), strict=True):
        assert left.sharding.is_fully_replicated
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize(
    ("part", "bad"),
    [("reconstruction", ("schedule", "ends", "below")), ("diffusion", ("network", "linear_out", "bias"))],
)
def test_a_nan_is_reported_with_its_step_and_term(state, train_step, batch, part, bad):
    poisoned = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * jnp.nan if tuple(p.key for p in path) == bad else leaf, state.variables
    )
    broken = state._replace(variables=poisoned, step=jnp.int32(4))
    _, metrics = train_step(broken, empty_metrics(), batch)
    assert metrics.bad_step == 5
    assert metrics.bad == part


def test_nothing_bad_is_reported_of_a_good_step(state, train_step, batch):
    _, metrics = train_step(state, empty_metrics(), batch)
    assert metrics.bad_step == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("term", [*Bound._fields, "gradient"])
def test_each_term_is_told_apart_and_the_first_stays(model, config, term, value):
    """The step's bookkeeping alone, with an objective whose terms are given."""
    terms = dict.fromkeys((*Bound._fields, "gradient"), 1.0)
    variables = {"network": {"w": jnp.ones(2)}, "schedule": {}, "likelihood": {}}

    class Given(Objective):
        def loss_and_gradients(self, model, variables, carried, key, batch, *parts):
            gradient = {"network": {"w": jnp.full(2, terms["gradient"])}, "schedule": {}, "likelihood": {}}
            return Bound(*(jnp.float32(terms[name]) for name in Bound._fields)), gradient, carried

    optimizer = make_optimizer(config)
    step = make_train_step(model, Given(), optimizer, config)
    key = jax.random.key_data(jax.random.key(0))
    state = TrainState(jnp.int32(0), variables, optimizer.init(variables), variables, key, {})
    state, metrics = step(state, empty_metrics(), {})
    assert metrics.bad_step == 0
    terms[term] = value
    state, metrics = step(state, metrics, {})
    assert (metrics.bad_step, metrics.bad) == (2, term)
    terms |= dict.fromkeys(terms, np.nan)
    _, metrics = step(state, metrics, {})
    assert (metrics.bad_step, metrics.bad) == (2, term)


def test_empty_metrics_has_no_shared_buffers():
    """The step donates them."""
    leaves = jax.tree.leaves(empty_metrics())
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
    assert all(leaf == 0 for leaf in leaves)
    assert isinstance(empty_metrics(), Metrics)


class Dropped(nn.Module):
    """Two dense layers with dropout between: as little as a train step can have of everything."""

    @nn.compact
    def __call__(self, z, gamma, condition=None, train=False):
        h = nn.swish(nn.Dense(128)(z.reshape(len(z), -1)) + jnp.broadcast_to(gamma, z.shape[:1])[:, None])
        return nn.Dense(DIMS)(nn.Dropout(0.2, deterministic=not train)(h)).reshape(z.shape)


def test_steps_of_one_program_have_the_bits_of_single_ones(config, model):
    """State and metrics after 12 steps, 1, 3 and 4 a call, on four devices, in two parts, the state cut in two."""
    config = dataclasses.replace(
        config, training=TrainingConfig(batch_size=NUM, fsdp=2, accumulate=2, steps_per_call=4)
    )
    devices = np.array(jax.devices()[:4]).reshape(2, 2)
    mesh, optimizer = Mesh(devices, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2), make_optimizer(config)
    model = dataclasses.replace(model, network=Dropped())
    program = jit_train_steps(model, Objective(), optimizer, config, mesh)
    images = [parallel.shard_batch({"image": np.asarray(tiny.images(NUM, seed=n))}, mesh) for n in range(12)]
    begin = (init_state(model, Objective(), optimizer, seed=0), empty_metrics())
    # A program reuses the memory of what it is given.
    copied = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=parallel.state_sharding(begin, mesh))

    def after(steps_per_call: int):
        carry = copied(jax.device_get(begin))
        for n in range(0, 12, steps_per_call):
            batches = (images[n : n + steps_per_call] * 4)[:4]
            carry = jax.block_until_ready(program(*carry, np.int32(steps_per_call), *batches))
        return jax.device_get(carry)

    single = after(1)
    assert single[1].num_steps == 12
    for steps_per_call in (3, 4):
        chex.assert_trees_all_equal(single, after(steps_per_call))
