"""Blurred digits restored by every method, with a model whose posterior is known: a worked example in cells.

    python examples/restoration.py --out=restoration.png

Half a minute on two CPU cores. The model is the Gaussian with the mean and covariance of scikit-learn's digits; its
exact denoiser stands for a network that has learned everything there is. So p(x|y) is known, and what each method is
off can be seen. Cells begin with `# %%`: Jupyter (by jupytext), VS Code and Spyder run them one by one.
"""

# %% Settings.
import argparse

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from vdm import inverse, operators, posteriors, samplers

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=100, help="steps of the sampler")
parser.add_argument("--draws", type=int, default=64, help="draws of each digit")
parser.add_argument("--noise", type=float, default=0.1, help="standard deviation of the noise of y")
parser.add_argument("--out", default="restoration.png", help="the picture")
settings = parser.parse_args()

# %% The model: x in [−1, 1], N(mean, covariance) of all digits but those that are to be restored.
digits = load_digits().images[..., None] / 8 - 1
given, others = digits[:8], digits[8:]
data = posteriors.gaussian(others.mean(axis=0), np.cov(others.reshape(len(others), -1).T) + 1e-3 * np.eye(64))
denoise = posteriors.oracle(data).denoise

# %% What is measured: y = A x + noise, A a blur of 1 pixel.
blur = operators.blur(1.0, shape=(8, 8, 1))
noise = np.random.default_rng(0).normal(size=given.shape)
x = jnp.asarray(given, jnp.float32)
y = operators.measure(blur, x, jnp.asarray(noise, jnp.float32), settings.noise)

# %% What is left of the model: the exact p(x|y) of each digit.
exact = [posteriors.given(data, posteriors.matrix(blur), np.asarray(each).ravel(), settings.noise) for each in y]
mean = np.stack([each.mean.reshape(8, 8, 1) for each in exact])
std = np.stack([np.sqrt(np.diag(each.covariance)).reshape(8, 8, 1) for each in exact])

# %% Every method makes of the model's denoiser one of x given z and y, and any sampler draws with it.
methods = {
    "proximal": inverse.proximal,
    "dps": inverse.dps,
    "pigdm": inverse.pigdm,
    "mmps, 3 steps": lambda *args: inverse.moment_matching(*args, iterations=3),
    "mmps, 20 steps": lambda *args: inverse.moment_matching(*args, iterations=20),
}
gammas = jnp.linspace(8.0, -10.0, settings.steps + 1)
several = inverse.Measurement(blur, jnp.repeat(y, settings.draws, axis=0), settings.noise)
shape = (len(x) * settings.draws, 8, 8, 1)
rows = [given, np.asarray(y), mean]
print(f"{'':16}  error of the mean  spread     (of p(x|y): 0 and 1)")
for name, method in methods.items():
    led = method(denoise, several)
    sample = jax.jit(lambda key, led=led: samplers.sample(key, led, samplers.ancestral(), gammas, shape))
    z_0 = sample(jax.random.key(0))
    drawn = np.asarray(z_0).reshape(len(x), settings.draws, 8, 8, 1)
    off = np.sqrt(np.mean(np.square((drawn.mean(axis=1) - mean) / std)))
    chance = settings.draws**-0.5
    print(f"{name:16}  {off:.2f} (chance {chance:.2f})  {np.mean(drawn.std(axis=1) / std):.2f}")
    rows.append(drawn[:, 0])

# %% A picture: the digits, what was measured, the exact mean, and a draw by each method.
tiles = np.pad(np.stack(rows)[..., 0], ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
picture = np.concatenate([np.concatenate(list(row), axis=1) for row in tiles], axis=0)
grey = np.clip((picture + 1) * 127.5, 0, 255).astype(np.uint8)
Image.fromarray(grey).resize((8 * grey.shape[1], 8 * grey.shape[0]), Image.Resampling.NEAREST).save(settings.out)
print(f"wrote {settings.out}: digits, measured, mean of p(x|y), and a draw by {', '.join(methods)}")
