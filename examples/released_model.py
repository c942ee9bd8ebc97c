# %% [markdown]
# # Evaluate a released model
#
# "The model reaches 1.8 bits/dim." Which number is that, and how certain is it?
#
# Papers report several quantities under one name: the variational bound in continuous time, the bound of a model with
# T steps, importance-weighted bounds, and the likelihood under an ordinary differential equation. They are different
# numbers. Here we load a released model and measure each of them with its standard error.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import vdm
from vdm.data import examples
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.importance import ImportanceEvaluator
from vdm.evaluation.ode import OdeEvaluator, evaluate_ode
from vdm.keys import Stream

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
DRAWS, IMAGES, IMPORTANCE, FEW = (10, 10, 4, 2) if SMALL else (50, 300, 16, 40)

run = vdm.open_run("vdm:digits")
key = run.key(Stream.EVALUATION)
print(
    f"{run.config.data.name}: images of shape {run.model.shape}, {run.model.levels} gray levels"
)
print(
    f"trained for {run.step} steps; {len(run.dataset.test)} test images, of which {IMAGES} are used here"
)

# %% [markdown]
# ## Something to compare with
#
# A model that knows nothing needs log₂ 17 bits for each pixel. A model that knows how often each pixel has each gray
# level, but treats the pixels as independent, does better. A diffusion model is worth its cost only if it is well
# below that.

# %%
train, test = (
    examples(split, range(len(split)))["image"]
    for split in (run.dataset.train, run.dataset.test)
)
counts = (
    np.stack(
        [(train == level).sum(axis=0) for level in range(run.model.levels)], axis=-1
    )
    + 1.0
)
probabilities = np.take_along_axis(
    (counts / counts.sum(axis=-1, keepdims=True))[None], test[..., None], axis=-1
)
print(f"all levels equally likely:      {np.log2(run.model.levels):.3f} bits/dim")
print(f"a histogram for every pixel:    {-np.log2(probabilities).mean():.3f} bits/dim")

# %% [markdown]
# ## The variational bound
#
# We average over the test images, with DRAWS draws of time and noise for each of them. There are two sources of error.
# The first is the choice of test images: how much the mean would change with other ones. More draws do not reduce it.
# The second one, usually far smaller, is the noise of the draws. The bound is lowest in continuous time (T = ∞); the
# same network used with T steps has a higher one.

# %%
evaluator = Evaluator(run.model, run.mesh, batch_size=min(IMAGES, 100))
variational = {
    T: evaluator(
        run.variables, run.dataset.test, key, DRAWS, max_images=IMAGES, num_steps=T
    )
    for T in (10, 100, 1000, None)
}
print("   T   bits/dim            reconstruction  prior  diffusion")
for T, found in variational.items():
    terms = f"{found.reconstruction:14.4f} {found.prior:6.4f} {found.diffusion:10.4f}"
    print(f"{T or '∞':>4}   {found.total:.4f} ± {found.stderr:.4f}   {terms}")

# %% [markdown]
# ## Importance weighting
#
# With T steps, K draws of all latents can be combined into one tighter bound by importance weights (Burda et al.
# 2016). It shows how loose the bound at T = 10 is. Compare it only with other numbers for the same K. Both columns use
# the same draws, so the gain is known more precisely than either bound.

# %%
weighted = ImportanceEvaluator(run.model, run.mesh, batch_size=FEW, num_steps=10)
importance = weighted(run.variables, run.dataset.test, key, IMPORTANCE, max_images=FEW)
for size, bound, gain in zip(
    importance.sizes, importance.bounds, importance.gains, strict=True
):
    print(
        f"K = {size:2}: {bound.value:.4f} bits/dim, {gain.value:.4f} below the plain bound"
    )

# %% [markdown]
# ## The probability-flow ODE
#
# The same network also defines a deterministic flow from noise to data, whose density can be computed by integration
# along the flow (Song et al. 2021). This is a second model with its own likelihood, which may be above or below the
# variational bound. Solving the equation takes hundreds of network calls, so we use only FEW images and compute the
# variational bound of the same images for comparison.

# %%
ode = OdeEvaluator(
    run.model, run.mesh, batch_size=FEW, num_probes=1, tolerance=1e-2 if SMALL else 1e-3
)
flow = evaluate_ode(
    ode,
    run.variables,
    run.dataset.test,
    key,
    num_draws=1,
    variational_draws=DRAWS,
    batch_size=FEW,
    max_images=FEW,
)
print(
    f"ODE:                {flow.total:.3f} ± {flow.stderr:.3f} bits/dim, {flow.mean_calls:.0f} calls an image"
)
print(
    f"variational, same:  {flow.variational.total:.3f} ± {flow.variational.stderr:.3f}"
)
print(f"difference:        {flow.difference:+.3f} ± {flow.difference_stderr:.3f}")

# %% [markdown]
# ## All in one picture
#
# Error bars are standard errors over images. With only FEW images they are wide, which is why differences are measured
# image by image.

# %%
rows = [
    (f"variational, T = {T or '∞'}", found.total, found.stderr)
    for T, found in variational.items()
]
rows.append(
    (
        f"importance-weighted, T = 10, K = {IMPORTANCE}\n({FEW} images)",
        importance.total,
        importance.stderr,
    )
)
rows.append(
    (
        f"variational, T = ∞\n({FEW} images)",
        flow.variational.total,
        flow.variational.stderr,
    )
)
rows.append((f"ODE\n({FEW} images)", flow.total, flow.stderr))
fig, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for k, (_, value, error) in enumerate(rows):
    axis.errorbar(
        value, -k, xerr=error, fmt="o", capsize=3, color=f"C{0 if k < 4 else k - 3}"
    )
axis.set(
    title="one model, several numbers",
    xlabel="bits/dim",
    yticks=[-k for k in range(len(rows))],
)
axis.set_yticklabels([name for name, _, _ in rows])
plt.show()

# %% [markdown]
# So a likelihood should be reported with its kind, its T, the images and an error. `vdm evaluate` prints all of them:
# try `vdm evaluate --workdir=RUN --T=10,100,inf`, `--importance=16 --T=10` and `--ode=2`. See [Likelihoods you can
# trust](../howto/likelihoods.md) and [the table of released models](../results.md).
