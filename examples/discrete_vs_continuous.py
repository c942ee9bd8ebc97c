# %% [markdown]
# # Discrete against continuous time
#
# How many steps should a diffusion model have? And if you train it for one number of steps, can you use another?
#
# A model with T steps has its own bound. Kingma et al. (2021, Table 2) trained models on CIFAR-10 with T from 10 to ∞
# and compared each with the continuous-time model evaluated at the same T. Here is a small version of this experiment:
# 8×8 digits, a small multilayer perceptron, and models that differ in T only.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

from vdm import bounds, schedules
from vdm.config import DataConfig
from vdm.data import examples, load
from vdm.model import Model
from vdm.networks import MLP, fourier_exponents

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
STEPS, BATCH, DRAWS = (100, 64, 10) if SMALL else (4000, 128, 100)
TRAINED, EVALUATED = (
    (10, 100, 1000, None),
    (10, 100, 1000, 10_000, None),
)  # None: continuous time


def text(T):
    return "∞" if T is None else str(T)


# %% [markdown]
# ## Two losses
#
# In discrete time the diffusion loss is a sum over T steps, each between a noise level s and a higher one t. A draw
# estimates it from a single step:
#
# $$\tfrac{T}{2}\, \operatorname{expm1}(\gamma_t - \gamma_s)\, \| \varepsilon - \hat\varepsilon(z_t, \gamma_t) \|^2$$
#
# As T grows, $T\,\operatorname{expm1}(\gamma_t - \gamma_s)$ tends to $\gamma'(t)$, and the sum becomes an integral over
# time:
#
# $$\tfrac{1}{2}\, \gamma'(t)\, \| \varepsilon - \hat\varepsilon(z_t, \gamma_t) \|^2$$
#
# `bounds.noise_levels` covers both cases. It returns the noise level at a given time (in discrete time, at the noisier
# end of the step that contains it) and the factor of the squared error there.


# %%
def straight(t):
    return 12.5 * t - 7.5


for T in EVALUATED:
    gamma_t, weight = bounds.noise_levels(straight, jnp.array([0.5]), T)
    print(f"T = {text(T):>5}: γ = {gamma_t[0]:.3f}, factor {weight[0]:.3f}")

# %% [markdown]
# The factors decrease towards γ' = 12.5: a step of finite length pays more for the same error.
#
# ## The models
#
# A `Model` combines a schedule, here with two learned end points, and a network. T is not part of it: it belongs to the
# loss.

# %%
digits = load(DataConfig(name="digits"))
train, test = (
    jnp.asarray(examples(split, range(len(split)))["image"])
    for split in (digits.train, digits.test)
)
network = MLP(
    channels=128,
    depth=3,
    gamma_min=-7.5,
    gamma_max=5.0,
    fourier=fourier_exponents(17),
    dropout=0.1,
)
model = Model(schedules.learned_linear(-7.5, 5.0), network, shape=(8, 8, 1), levels=17)


def bound(variables, key, images, T, dropout_key=None):
    """Return a single-draw estimate of the terms of the T-step bound for each image, in nats."""
    draws = model.draw(key, len(images))
    gamma_t, weight = bounds.noise_levels(
        functools.partial(model.gamma, variables), draws.t, T
    )
    return model.bound_at(
        variables, {"image": images}, draws, gamma_t, weight, dropout_key
    )


# %% [markdown]
# Training minimizes the bound itself and keeps a moving average of the variables.

# %%
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(2e-3, STEPS))
)


def loss(variables, n, T):
    key_batch, key, key_dropout = jax.random.split(
        jax.random.fold_in(jax.random.key(1), n), 3
    )
    images = train[jax.random.choice(key_batch, len(train), (BATCH,))]
    return bounds.bits_per_dim(
        bound(variables, key, images, T, key_dropout).total.mean(), model.num_dims
    )


@jax.jit
def trained(variables, T):
    """Return the moving average of the variables after STEPS steps."""

    def step(state, n):
        variables, opt_state, average = state
        updates, opt_state = optimizer.update(
            jax.grad(loss)(variables, n, T), opt_state, variables
        )
        variables = optax.apply_updates(variables, updates)
        decay = jnp.minimum(0.998, (1 + n) / (10 + n))
        return (
            variables,
            opt_state,
            optax.incremental_update(variables, average, 1 - decay),
        ), None

    return jax.lax.scan(
        step, (variables, optimizer.init(variables), variables), jnp.arange(STEPS)
    )[0][2]


start = model.init(jax.random.key(0))
variables = {T: trained(start, T) for T in TRAINED}

# %% [markdown]
# ## The table
#
# Every model is evaluated on the same 300 test images with the same noise, so the differences between entries are known
# more precisely than the entries themselves.


# %%
@jax.jit
def evaluated(variables, T):
    """Return the terms of the T-step bound for each image in bits/dim, averaged over DRAWS draws."""
    keys = jax.random.split(jax.random.key(2), DRAWS)
    terms = jax.lax.map(lambda key: bound(variables, key, test, T), keys)
    return jax.tree.map(
        lambda nats: bounds.bits_per_dim(nats.mean(axis=0), model.num_dims), terms
    )


own = {T: evaluated(variables[T], T) for T in TRAINED}
continuous = {T: evaluated(variables[None], T).total for T in EVALUATED}
limit = continuous[None]

totals = [f"{own[T].total.mean():9.3f}" if T in own else " " * 9 for T in EVALUATED]
print("bits/dim at T =              " + "".join(f"{text(T):>9}" for T in EVALUATED))
print("trained and evaluated at T   " + "".join(totals))
print(
    "trained at ∞, evaluated at T "
    + "".join(f"{continuous[T].mean():9.3f}" for T in EVALUATED)
)
print(
    f"(standard error over images of a single entry: ± {limit.std() / len(test) ** 0.5:.3f})"
)

# %% [markdown]
# ## The law behind it
#
# When the continuous-time model is used with T steps, its bound exceeds that at T = ∞ by an amount that falls as 1/T:
# T times the excess tends to a constant.

# %%
finite = EVALUATED[:-1]
excess = {T: continuous[T] - limit for T in finite}
for T in finite:
    error = excess[T].std() / len(test) ** 0.5
    print(
        f"T = {T:>5}: {excess[T].mean():.4f} ± {error:.4f} above T = ∞; times T: {T * excess[T].mean():.2f}"
    )

fig, axis = plt.subplots(figsize=(6, 4), layout="constrained")
gaps = [excess[T].mean() for T in finite]
axis.loglog(finite, gaps, "o-", label="trained at ∞, evaluated at T")
few = [T for T in TRAINED if T is not None and T <= 100]
axis.loglog(
    few,
    [(own[T].total - limit).mean() for T in few],
    "s",
    label="trained and evaluated at T",
)
axis.loglog(finite, [gaps[-1] * finite[-1] / T for T in finite], "k:", label="1/T")
axis.set(xlabel="T", ylabel="bits/dim above T = ∞")
axis.legend()
plt.show()

# %% [markdown]
# ## What a ten-step model does differently
#
# A model with few steps may also learn other end points for its noise levels. Each of its steps must cross a wide range
# of noise levels, which is expensive. Given enough training, a ten-step model gives up the lowest levels: γ(0) rises
# and the steps get shorter, at the price of a worse reconstruction.

# %%
for T in TRAINED:
    low, high = (float(model.gamma(variables[T], jnp.float32(t))) for t in (0, 1))
    parts = ", ".join(
        f"{name} {term.mean():.3f}" for name, term in own[T]._asdict().items()
    )
    print(f"T = {text(T):>4}: γ from {low:.2f} to {high:.2f}; {parts} bits/dim")

# %% [markdown]
# In short, train in continuous time unless you will only ever take a few steps. A larger study, with errors over seeds
# and learned shapes of the schedule, is in [the results](../results/discrete_vs_continuous.md); `vdm compare
# --config=compare_digits` runs it.
