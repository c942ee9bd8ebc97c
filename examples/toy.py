# %% [markdown]
# # A diffusion model in the plane, from scratch
#
# Can a small diffusion model learn a density that we know exactly, and how close does its bound come to the truth?
#
# The data are two interleaved half circles with normal noise. Their density is known, so nothing about the result has
# to be judged by eye: no model can do better than the entropy of the data, and every sample has a known log-density. We
# assemble the model from the library's smallest pieces: a noise schedule γ(t), a network written in plain Flax, the
# three terms of the bound, an optax training loop and a sampler.

# %%
import functools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from vdm import bounds, likelihoods, predictions, samplers, schedules, timesteps
from vdm.data import examples, toys

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
STEPS, BATCH, DRAWS = (200, 256, 10) if SMALL else (6000, 256, 300)

# %% [markdown]
# ## The data
#
# For each density, `toys` has ten thousand training points, two thousand test points and the exact log-density.

# %%
data = toys.moons()
train, test = (
    jnp.asarray(examples(split, range(len(split)))["image"])
    for split in (data.train, data.test)
)
entropy = toys.entropy("moons")
print(
    f"{len(train)} points to train on, {len(test)} to test; entropy of the data: {entropy:.3f} nats"
)

# %% [markdown]
# ## Schedule and network
#
# γ(t) = −log SNR(t) is the noise level of z_t = α x + σ ε at time t. Here γ rises linearly from −12 (practically the
# data) to 5 (practically pure noise). The network takes z and γ and predicts v, from which `predictions.denoiser`
# computes both the clean point x̂ and the noise ε̂.

# %%
schedule = schedules.linear(gamma_min=-12.0, gamma_max=5.0)
gamma = functools.partial(schedule.gamma, {})


class Network(nn.Module):
    """Predict v from z and γ, by three hidden layers on Fourier features of both."""

    @nn.compact
    def __call__(self, z, gamma):
        gamma = jnp.broadcast_to(gamma, z.shape[:1])[:, None]
        angles = jnp.concatenate(
            [gamma * 2.0 ** jnp.arange(-4.0, 2.0), jnp.pi * z, 2 * jnp.pi * z], axis=1
        )
        h = jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], axis=1)
        for _ in range(3):
            h = nn.swish(nn.Dense(128)(h))
        return nn.Dense(z.shape[1])(h)


network = Network()
params = network.init(jax.random.key(0), train[:1], jnp.zeros(1))


def denoiser(params):
    return predictions.denoiser(functools.partial(network.apply, params), "v")


# %% [markdown]
# ## The bound
#
# The bound is −log p(x) ≤ reconstruction + prior + diffusion. The library has a function for each term; together they
# give an unbiased estimate of the bound for each point of a batch. The times are stratified over the batch, which costs
# nothing and makes the estimate less noisy.


# %%
def bound(params, key, x):
    """Return a single-draw estimate of the bound on −log p(x) in nats: (batch,)."""
    key_t, key_eps, key_eps_0 = jax.random.split(key, 3)
    eps, eps_0 = (
        jax.random.normal(key_eps, x.shape),
        jax.random.normal(key_eps_0, x.shape),
    )
    t = timesteps.stratified(key_t, len(x))
    diffusion = bounds.continuous_diffusion_loss(denoiser(params), gamma, x, t, eps)
    return (
        bounds.reconstruction_loss(x, gamma(0.0), eps_0, likelihoods.REAL)
        + bounds.prior_loss(x, gamma(1.0))
        + diffusion
    )


@jax.jit
def evaluate(params):
    """Return the bound for each test point in nats, averaged over DRAWS draws: (points,)."""
    keys = jax.random.split(jax.random.key(2), DRAWS)
    return jax.lax.map(lambda key: bound(params, key, test), keys).mean(axis=0)


def summary(values):
    return f"{values.mean():7.3f} ± {values.std() / len(values) ** 0.5:.3f} nats"


print("bound, untrained:", summary(evaluate(params)))

# %% [markdown]
# ## Training
#
# We use Adam with a decaying learning rate. `jax.lax.scan` runs a hundred steps per call, so that Python overhead does
# not matter.

# %%
optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, STEPS))


def step(state, n):
    params, opt_state = state
    key_batch, key_bound = jax.random.split(jax.random.fold_in(jax.random.key(1), n))
    x = train[jax.random.choice(key_batch, len(train), (BATCH,))]
    loss, gradient = jax.value_and_grad(lambda p: bound(p, key_bound, x).mean())(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), loss


hundred_steps = jax.jit(
    lambda state, first: jax.lax.scan(step, state, first + jnp.arange(100))
)
state, losses = (params, optimizer.init(params)), []
for first in range(0, STEPS, 100):
    state, loss = hundred_steps(state, first)
    losses.append(loss.mean())
params = state[0]

fig, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(
    100 * np.arange(1, len(losses) + 1), losses, label="bound on training batches"
)
axis.axhline(entropy, color="black", linestyle="--", label="entropy of the data")
axis.set(xlabel="step", ylabel="nats", ylim=(entropy - 0.5, entropy + 3))
axis.legend()
plt.show()

# %% [markdown]
# ## How close is it?
#
# On average over the data, no model's bound is below the entropy. The test points are a finite sample, so the average
# bound has a standard error. But we also know −log p(x) for each test point, and the average pointwise difference is
# known much more precisely. It is the sum of what the model has not learned and of the gap between the bound and the
# model's own likelihood.

# %%
model, exact = evaluate(params), -toys.log_prob("moons", np.asarray(test))
print("bound on the test points:     ", summary(model))
print("exact −log p of the same:     ", summary(exact))
print("difference, point by point:   ", summary(model - exact))

# %% [markdown]
# ## Samples beside the density
#
# The sampler goes from noise to data in 200 steps. Because the true density is known, we can compute the mean
# log-density of the samples under it. For draws from the true density this is minus the entropy; samples that are
# too blurred or lie between the moons bring it down.

# %%
gammas = samplers.grid(gamma, 20 if SMALL else 200)
drawn = jax.jit(
    lambda key: samplers.sample(
        key, denoiser(params), samplers.ancestral(), gammas, (2000, 2)
    )
)
samples = np.asarray(drawn(jax.random.key(3)))

print(
    "mean true log-density of the samples:    ",
    summary(toys.log_prob("moons", samples)),
)
print("mean true log-density of the test points:", summary(-exact))

cells, side = 200, toys.SIDE
density = np.exp(toys.log_prob("moons", toys.plane(cells))).reshape(cells, cells)
fig, (left, right) = plt.subplots(
    1, 2, figsize=(9, 4.5), layout="constrained", sharex=True, sharey=True
)
left.imshow(density, origin="lower", extent=(-side, side, -side, side), cmap="viridis")
left.set_title("the known density")
right.scatter(*samples.T, s=2, alpha=0.5)
right.set(
    title=f"{len(samples)} samples of the model",
    aspect="equal",
    xlim=(-side, side),
    ylim=(-side, side),
)
plt.show()

# %% [markdown]
# ## What next
#
# - [Discrete against continuous time](discrete_vs_continuous.md) trains models on bounds with T steps.
# - [A learned schedule](learned_schedule.md) replaces the straight line γ(t).
# - `vdm train --config=toy` does what this page does, with checkpoints, evaluation and plots.
