# %% [markdown]
# # Samplers compared
#
# How many network calls does a good sample take, and does the choice of sampler matter?
#
# All samplers go down the same grid of noise levels and ask the same network for its estimate x̂ at each level. They
# differ in how they use the estimate. Here we sample a released model of 8×8 digits with four of them and measure two
# things: how close each sampler comes to its own limit of very many calls, and how close its samples are to real
# digits.

# %%
import functools
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import vdm
from vdm import likelihoods, samplers
from vdm.data import examples

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
NUM, CALLS, REFERENCE = (8, (4, 8), 8) if SMALL else (128, (6, 10, 20, 40), 80)

run = vdm.open_run("vdm:digits")
denoise = run.model.denoiser(run.variables)
gamma = functools.partial(run.model.gamma, run.variables)
print(f"γ goes from {gamma(1.0):.2f} down to {gamma(0.0):.2f}")

# %% [markdown]
# ## The samplers
#
# - `ancestral` is the model itself, p(z_s|z_t): it adds fresh noise at every step.
# - `ddim` adds no noise, and so solves an ordinary differential equation to first order.
# - `dpm_solver_pp(2)` solves the same equation to second order, reusing the previous step's estimate instead of
#   calling the network again.
# - `heun` is of second order as well, but makes two calls per step.
#
# For a given key, image k starts from the same noise with every sampler.

# %%
choices = {
    "ancestral": samplers.ancestral(),
    "ddim": samplers.ddim(),
    "dpm_solver_pp(2)": samplers.dpm_solver_pp(2),
    "heun": samplers.heun(),
}
if SMALL:
    del choices["heun"]
grid = samplers.grids.uniform()  # equal steps in γ


def draw(sampler, steps):
    """Return z₀ (NUM, 8, 8, 1) after so many steps."""
    gammas = grid.gammas(gamma, steps)
    run_down = jax.jit(
        lambda key: samplers.sample(
            key, denoise, sampler, gammas, (NUM, *run.model.shape)
        )
    )
    return run_down(jax.random.key(0))


drawn = {
    (name, calls): draw(sampler, calls // sampler.calls)
    for name, sampler in choices.items()
    for calls in CALLS
}

# %% [markdown]
# ## How far from the limit?
#
# The deterministic samplers all solve the same equation, so with more and more calls they converge to the same images.
# A long run of the second-order sampler stands in for that limit. The error is the root mean square distance from it
# over all pixels, in units where black and white are 2 apart. (`ancestral` draws noise and has no such limit.)

# %%
reference = draw(choices["dpm_solver_pp(2)"], REFERENCE * 2)
errors = {
    key: float(jnp.sqrt(jnp.mean(jnp.square(z_0 - reference))))
    for key, z_0 in drawn.items()
    if key[0] != "ancestral"
}
print("network calls    " + "".join(f"{calls:>8}" for calls in CALLS))
for name in choices:
    if name != "ancestral":
        print(f"{name:17}" + "".join(f"{errors[name, calls]:8.3f}" for calls in CALLS))

# %% [markdown]
# From left to right, more calls give less error. From top to bottom, the table compares samplers at equal cost,
# counted in network calls rather than steps, because the network takes nearly all of the time.
#
# ## Are they good digits?
#
# An image can be far from its limit and still be a good digit, or close to it and a bad one. So we also compare
# distributions: the energy distance 2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖ between samples and training images is 0 only if
# both have the same distribution. (The estimate is unbiased, so it may fall a little below 0.) The distance of equally
# many real test images shows the effect of chance at this sample size.


# %%
def pixels(images):
    """Return the pixels of images as vectors (num, 64) in [−1, 1]."""
    return np.asarray(likelihoods.encode(images, run.model.levels)).reshape(
        len(images), -1
    )


def mean_distance(a, b, pairs):
    """Return the sum of ‖a − b‖ over all pairs, divided by the given number of pairs."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0)).sum() / pairs


real = pixels(examples(run.dataset.train, range(1000))["image"])
real_spread = mean_distance(real, real, len(real) * (len(real) - 1))


def energy_distance(images):
    x = pixels(images)
    across, within = (
        mean_distance(x, real, len(x) * len(real)),
        mean_distance(x, x, len(x) * (len(x) - 1)),
    )
    return 2 * across - within - real_spread


decoded = {
    key: likelihoods.mode(z_0, gamma(0.0), run.model.levels)
    for key, z_0 in drawn.items()
}
distances = {key: energy_distance(images) for key, images in decoded.items()}
floor = energy_distance(examples(run.dataset.test, range(NUM))["image"])
print("network calls    " + "".join(f"{calls:>8}" for calls in CALLS))
for name in choices:
    print(f"{name:17}" + "".join(f"{distances[name, calls]:8.3f}" for calls in CALLS))
print(f"{NUM} real test images: {floor:.3f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for name in choices:
    if name != "ancestral":
        left.loglog(CALLS, [errors[name, calls] for calls in CALLS], "o-", label=name)
    right.semilogx(CALLS, [distances[name, calls] for calls in CALLS], "o-", label=name)
right.axhline(floor, color="black", linestyle=":", label="real test images")
left.set(
    title="distance from the limit",
    xlabel="network calls",
    ylabel="root mean square error",
)
right.set(
    title="distance from real digits", xlabel="network calls", ylabel="energy distance"
)
left.legend()
right.legend()
plt.show()

# %% [markdown]
# And by eye: the same eight images by each sampler, one per row, at the smallest and at the largest number of calls.


# %%
def in_a_row(images):
    return np.concatenate(
        list(np.pad(images[:8, ..., 0], ((0, 0), (1, 1), (1, 1)))), axis=1
    )


fig, panels = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
for panel, calls in zip(panels, (CALLS[0], CALLS[-1]), strict=True):
    panel.imshow(
        np.concatenate([in_a_row(decoded[name, calls]) for name in choices]),
        cmap="gray",
    )
    panel.set(
        title=f"{calls} network calls",
        xticks=[],
        yticks=[10 * k + 5 for k in range(len(choices))],
    )
    panel.set_yticklabels(list(choices))
plt.show()

# %% [markdown]
# With few calls, use a second-order sampler. With hundreds of calls all samplers are good, and `ancestral` is the model
# whose likelihood is bounded. `vdm sample --sampler='dpm_solver_pp(2)' --steps=20` chooses a sampler on the command
# line, and [Samplers](../howto/samplers.md) lists all of them.
