# %% [markdown]
# # Blurred digits restored
#
# A diffusion model can serve as a prior: given a blurred and noisy image y, several methods use it to draw from
# p(x|y). Which of them are right?
#
# To find out, we need a model whose posterior is known. Ours is the Gaussian with the mean and covariance of
# scikit-learn's digits, and its exact denoiser stands in for a perfectly trained network. Then p(x|y) has a closed
# form, and we can measure how far each method is from it.

# %%
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from vdm import inverse, operators, posteriors, samplers

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
STEPS, DRAWS, NOISE = (40, 32, 0.1) if SMALL else (100, 64, 0.1)

# %% [markdown]
# ## The model
#
# Images x, scaled to [−1, 1], are normal with the mean and covariance of all digits except the eight that we will
# restore.

# %%
digits = load_digits().images[..., None] / 8 - 1
given, others = digits[:8], digits[8:]
data = posteriors.gaussian(
    others.mean(axis=0), np.cov(others.reshape(len(others), -1).T) + 1e-3 * np.eye(64)
)
denoise = posteriors.oracle(data).denoise

# %% [markdown]
# ## What is measured
#
# The measurement is y = A x + noise, where A is a Gaussian blur with a standard deviation of one pixel. The exact
# posterior of each digit follows from it.

# %%
blur = operators.blur(1.0, shape=(8, 8, 1))
noise = np.random.default_rng(0).normal(size=given.shape)
x = jnp.asarray(given, jnp.float32)
y = operators.measure(blur, x, jnp.asarray(noise, jnp.float32), NOISE)

exact = [
    posteriors.given(data, posteriors.matrix(blur), np.asarray(each).ravel(), NOISE)
    for each in y
]
mean = np.stack([each.mean.reshape(8, 8, 1) for each in exact])
std = np.stack([np.sqrt(np.diag(each.covariance)).reshape(8, 8, 1) for each in exact])
print(
    f"standard deviation of a pixel: {np.sqrt(np.diag(data.covariance)).mean():.2f} before, {std.mean():.2f} given y"
)

# %% [markdown]
# ## The methods
#
# Each method turns the model's denoiser into a denoiser of x given both z and y, which works with any sampler. With
# each one we draw DRAWS restorations of every digit and compare their mean and spread, pixel by pixel, with the exact
# ones. Both are in units of the posterior standard deviation. For an exact method the error of the mean is due to
# chance alone, 1/√DRAWS, and the spread is 1.

# %%
methods = {
    "proximal": inverse.proximal,
    "dps": inverse.dps,
    "pigdm": inverse.pigdm,
    "mmps, 3 steps": lambda *args: inverse.moment_matching(*args, iterations=3),
    "mmps, 20 steps": lambda *args: inverse.moment_matching(*args, iterations=20),
}
gammas = jnp.linspace(8.0, -10.0, STEPS + 1)
several = inverse.Measurement(blur, jnp.repeat(y, DRAWS, axis=0), NOISE)
shape = (len(x) * DRAWS, 8, 8, 1)
rows = {"digits": given, "measured": np.asarray(y), "exact mean": mean}
print(f"{'':16}  error of the mean  spread")
for name, method in methods.items():
    led = method(denoise, several)
    sample = jax.jit(
        lambda key, led=led: samplers.sample(
            key, led, samplers.ancestral(), gammas, shape
        )
    )
    drawn = np.asarray(sample(jax.random.key(0))).reshape(len(x), DRAWS, 8, 8, 1)
    off = np.sqrt(np.mean(np.square((drawn.mean(axis=1) - mean) / std)))
    print(
        f"{name:16}  {off:.2f} (chance {DRAWS**-0.5:.2f})  {np.mean(drawn.std(axis=1, ddof=1) / std):.2f}"
    )
    rows[name] = drawn[:, 0]

# %% [markdown]
# Moment matching with enough conjugate-gradient steps is exact for Gaussian data: the error of its mean is at the level
# of chance. (The finite number of sampling steps brings the spread a little below 1.) The other methods are
# approximations, and the table shows what that costs. By eye they are hard to tell apart:

# %%
picture = [
    np.concatenate(
        list(np.pad(row[..., 0], ((0, 0), (1, 1), (1, 1)), constant_values=-1)), axis=1
    )
    for row in rows.values()
]
fig, axis = plt.subplots(figsize=(7, 6.5), layout="constrained")
axis.imshow(np.concatenate(picture), cmap="gray", vmin=-1, vmax=1)
axis.set(
    title="restored digits, one draw by each method",
    xticks=[],
    yticks=[10 * k + 5 for k in range(len(rows))],
)
axis.set_yticklabels(list(rows))
plt.show()

# %% [markdown]
# A trained model has no closed-form posterior, but the same functions apply to it. `vdm restore` runs them from the
# command line; [Edit and restore images](../howto/editing.md) shows how.
