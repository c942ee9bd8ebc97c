# %% [markdown]
# # A learned schedule, and why its variance falls
#
# In continuous time, all noise schedules with the same end points have the same bound. What, then, does learning the
# schedule buy?
#
# The answer is a less noisy estimate. Training and evaluation never see the bound itself, only estimates at random
# times, whose variance depends on how much time the schedule spends at each noise level. Here we take the trained
# network of a released model of 8×8 digits, give it the simplest schedule, a straight line, and then learn the shape of
# γ(t) with the network held fixed. The bound must stay the same, and the variance of its estimate must fall.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import vdm
from vdm import bounds, likelihoods, schedules, timesteps
from vdm.data import examples

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
STEPS, BATCH, DRAWS = (60, 64, 2) if SMALL else (400, 64, 50)

# %% [markdown]
# ## The model, with a straight line for a schedule
#
# `vdm.open_run` loads the trained model. Its own schedule was learned in training, so we keep only the two end points
# and connect them by a straight line.

# %%
run = vdm.open_run("vdm:digits")
low, high = (float(run.model.gamma(run.variables, jnp.float32(t))) for t in (0, 1))
linear = schedules.linear(low, high)
denoise = run.model.denoiser(run.variables)
train, test = (
    jnp.asarray(examples(split, range(len(split)))["image"])
    for split in (run.dataset.train, run.dataset.test)
)
print(
    f"γ from {low:.2f} to {high:.2f}; {len(test)} test images of {test[0].size} pixels"
)

# %% [markdown]
# ## One draw of the loss
#
# At time t the diffusion loss is γ'(t) · ½‖ε − ε̂‖². Its mean over times and noise is the diffusion term of the bound.
# Substituting γ for t turns that mean into ∫ E[½‖ε − ε̂‖²] dγ, which depends on the schedule only through its end
# points. The mean of the square, in contrast, becomes ∫ γ' · E[(½‖ε − ε̂‖²)²] dγ, which depends on the shape.


# %%
def losses(gamma, key, images, times=timesteps.iid):
    """Return (times, single-draw diffusion loss of each image in bits/dim)."""
    key_t, key_eps = jax.random.split(key)
    x = likelihoods.encode(images, run.model.levels)
    t, eps = times(key_t, len(x)), jax.random.normal(key_eps, x.shape)
    return t, bounds.bits_per_dim(
        bounds.continuous_diffusion_loss(denoise, gamma, x, t, eps), x[0].size
    )


@functools.partial(jax.jit, static_argnums=0)
def measure(schedule, params):
    """Return times and losses of the test images, (draws, images) each."""
    gamma = functools.partial(schedule.gamma, params)
    return jax.lax.map(
        lambda key: losses(gamma, key, test), jax.random.split(jax.random.key(1), DRAWS)
    )


before_times, before = measure(linear, {})
print(
    f"straight line: mean of one draw {before.mean():.3f} bits/dim, variance {before.var():.2f}"
)

# %% [markdown]
# ## Where the variance comes from
#
# The straight line spends the same amount of time at every γ. But the loss differs between noise levels, as its root
# mean square in bins of time shows.


# %%
def by_time(times, values, bins=20):
    """Return the centers of equal bins of time and the root mean square of the losses in each."""
    which = np.minimum((np.asarray(times).ravel() * bins).astype(int), bins - 1)
    squares = np.bincount(which, np.asarray(values).ravel() ** 2, bins)
    return (np.arange(bins) + 0.5) / bins, np.sqrt(
        squares / np.maximum(np.bincount(which, minlength=bins), 1)
    )


rms = by_time(before_times, before)[1]
print(
    f"root mean square of the loss, by time: from {rms.min():.2f} to {rms.max():.2f} bits/dim"
)

# %% [markdown]
# ## Learning the shape
#
# We learn a `learned_monotone` schedule: two end points, which we keep fixed, and a monotone network in between
# (Kingma et al. 2021, appendix H). Since the mean of the loss does not depend on the shape, the gradient of the mean
# *square* is the gradient of the variance, and this is what we minimize. The weights of the denoising network do not
# change.

# %%
learned = schedules.learned_monotone(low, high, hidden=256)
params = learned.init(jax.random.key(2))
optimizer = optax.adam(optax.cosine_decay_schedule(3e-2, STEPS))


@jax.jit
def step(shape, opt_state, n):
    key_batch, key = jax.random.split(jax.random.fold_in(jax.random.key(3), n))
    images = train[jax.random.choice(key_batch, len(train), (BATCH,))]

    def second_moment(shape):
        gamma = functools.partial(learned.gamma, params | {"shape": shape})
        return jnp.mean(jnp.square(losses(gamma, key, images, timesteps.stratified)[1]))

    value, gradient = jax.value_and_grad(second_moment)(shape)
    updates, opt_state = optimizer.update(gradient, opt_state, shape)
    return optax.apply_updates(shape, updates), opt_state, value


shape, opt_state = params["shape"], optimizer.init(params["shape"])
for n in range(STEPS):
    shape, opt_state, value = step(shape, opt_state, n)
    if (n + 1) % (STEPS // 5) == 0:
        print(f"step {n + 1}: mean square of the loss {value:.2f}")
params |= {"shape": shape}

# %% [markdown]
# ## Before and after
#
# Both schedules have the same bound, up to the error of the estimates, but not the same variance of a single draw. If
# the variance is k times smaller, evaluation to a given error takes k times fewer network calls.

# %%
after_times, after = measure(learned, params)
for name, values in (("straight line", before), ("learned", after)):
    error = values.mean(axis=1).std() / DRAWS**0.5
    print(
        f"{name:14} mean {values.mean():.3f} ± {error:.3f} bits/dim, variance of one draw {values.var():.2f}"
    )
print(f"the variance fell by a factor of {before.var() / after.var():.1f}")

# %%
t = jnp.linspace(0, 1, 201)
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name, schedule, p, (times, values) in (
    ("straight line", linear, {}, (before_times, before)),
    ("learned", learned, params, (after_times, after)),
):
    left.plot(t, schedule.gamma(p, t), label=name)
    right.plot(*by_time(times, values), label=name)
left.plot(
    t,
    run.model.gamma(run.variables, t),
    color="grey",
    linestyle=":",
    label="learned in training",
)
left.set(title="the schedule", xlabel="t", ylabel="γ(t) = −log SNR(t)")
right.set(
    title="the loss by time",
    xlabel="t",
    ylabel="root mean square, bits/dim",
    ylim=(0, None),
)
left.legend()
right.legend()
plt.show()

# %% [markdown]
# The learned schedule moves quickly where the loss is small and slowly where it is large, so that all times contribute
# equally: by the Cauchy–Schwarz inequality, a flat curve on the right is the best that any schedule can do. What
# remains is the variance over images and noise ε.
#
# With `vdm train`, `--config.schedule.name=learned_monotone` learns the end points from the bound and the shape from
# this second moment, together with the network and without an extra pass through it. The dotted curve is the schedule
# that training arrived at. [The results](../results/discrete_vs_continuous.md) report the gains on other data.
