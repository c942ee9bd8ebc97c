# %% [markdown]
# # Blurred digits restored
#
# A diffusion model is a prior. Given a blurred and noisy image, several methods use it to draw from p(x|y). Which
# of them are right?
#
# To know, we need a model whose posterior is known. So here it is the Gaussian with the mean and covariance of
# scikit-learn's digits; its exact denoiser stands for a network that has learned everything there is. Then p(x|y)
# has a closed form, and we can see by how much each method misses it.

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
# x in [−1, 1], normal with the mean and covariance of all digits but the eight that are to be restored.

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
# y = A x + noise, where A blurs by one pixel. From this the exact posterior of each digit follows.

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
# Each turns the model's denoiser into one of x given z and y, and any sampler can draw with it. For each we draw
# DRAWS restorations of every digit and compare their mean and spread, pixel by pixel, with the exact ones. The
# error of the mean is in posterior standard deviations: an exact method is off by chance alone, 1/√DRAWS. The
# spread of an exact method is 1.

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
# Moment matching with enough steps of conjugate gradients is exact for Gaussian data: the error of its mean is chance.
# (A spread a little below 1 is due to the steps of the sampler.) The others approximate, and the table shows what that
# costs. To the eye they are hard to tell apart:

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
# With a trained model there is no closed form, and the same functions apply. `vdm restore` runs them from the
# command line; [Edit and restore images](../howto/editing.md) shows how.
