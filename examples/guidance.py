# %% [markdown]
# # Conditional digits with guidance
#
# You ask a model for a seven, and now and then you get something else. Guidance fixes that. What does it cost?
#
# A conditional model is trained with its labels occasionally dropped, so it can predict both with and without a
# label. Classifier-free guidance (Ho & Salimans 2022) extrapolates away from the prediction without one:
# x̂ = (1 + w) x̂_c − w x̂, where w = 0 is the model as trained. Here we draw digits at several values of w and let a
# classifier, trained on real digits, judge them.

# %%
import os
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.svm import SVC

import vdm
from vdm import bounds, guidance
from vdm.data import examples
from vdm.evaluation.images import ImageSampler
from vdm.keys import Stream

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
EACH, STEPS = (2, 5) if SMALL else (30, 25)
SCALES = (0, 2) if SMALL else (0, 0.5, 1, 2, 4)

run = vdm.open_run("vdm:digits_conditional")
train, test = (
    examples(split, range(len(split)))
    for split in (run.dataset.train, run.dataset.test)
)

# %% [markdown]
# ## A judge
#
# The judge is a support vector machine trained on the real training images. Its verdicts on samples mean something
# only if it is reliable, so first we check its accuracy on real test images.


# %%
def flat(images):
    return np.asarray(images, np.float64).reshape(len(images), -1)


judge = SVC(gamma=0.001).fit(flat(train["image"]), train["label"])
accuracy = judge.score(flat(test["image"]), test["label"])
print(
    f"the judge is right on {100 * accuracy:.1f} % of {len(test['label'])} real test images"
)

# %% [markdown]
# ## Samples at every scale
#
# One compiled program serves all scales. Each guided step calls the network twice, once with the label and once
# without it.

# %%
labels = np.repeat(np.arange(10), EACH)
settings = replace(
    run.config.sampling,
    sampler="dpm_solver_pp(2)",
    steps=STEPS,
    grid="uniform",
    guidance="classifier_free(0)",
)
sampler = ImageSampler(run.model, run.mesh, settings)


def drawn(text):
    """Draw digits (10 · EACH, 8, 8, 1) with the guidance that the text names, always from the same noise."""
    key = run.key(Stream.SAMPLING)
    return sampler(
        run.variables, key, len(labels), condition={"label": labels}, guidance=text
    )[0]


samples = {f"classifier_free({w:g})": drawn(f"classifier_free({w:g})") for w in SCALES}

# %% [markdown]
# ## What guidance buys, and what it costs
#
# It buys obedience: the share of samples that the judge recognizes as the digit that was asked for. (Digits are easy,
# so there is little to gain.) It costs variety: the spread of the samples of one class around their mean, relative to
# that of real digits of the class.


# %%
def spread(images, labels):
    """Return the root mean square distance of images from the mean of their class."""
    return np.sqrt(
        np.mean([flat(images)[labels == c].var(axis=0).sum() for c in range(10)])
    )


def report(name, images, labels):
    obeyed = np.mean(judge.predict(flat(images)) == labels)
    error = (obeyed * (1 - obeyed) / len(labels)) ** 0.5
    share = spread(images, labels) / spread(train["image"], train["label"])
    print(f"{name:44} {100 * obeyed:5.1f} ± {100 * error:.1f} %     {share:.2f}")
    return obeyed, share


print(f"{'':44} as asked         spread (real: 1)")
results = {name: report(name, images, labels) for name, images in samples.items()}

# %%
names = list(samples)
first = np.arange(10) * EACH
fig, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4), layout="constrained", width_ratios=(1.3, 1)
)
tiles = [
    np.concatenate(
        list(np.pad(samples[name][first, ..., 0], ((0, 0), (1, 1), (1, 1)))), axis=1
    )
    for name in names
]
left.imshow(np.concatenate(tiles), cmap="gray")
left.set(
    title="0 to 9, a row for each scale",
    xticks=[],
    yticks=[10 * k + 5 for k in range(len(names))],
)
left.set_yticklabels([f"w = {w:g}" for w in SCALES])
right.plot(SCALES, [results[name][0] for name in names], "o-", label="as asked")
right.plot(
    SCALES,
    [results[name][1] for name in names],
    "s-",
    label="spread, as a share of real digits'",
)
right.set(title="obedience and variety", xlabel="scale w", ylim=(0, 1.1))
right.legend()
plt.show()

# %% [markdown]
# ## Guidance in the middle only
#
# The class is mostly decided at intermediate noise levels. Guiding only there (Kynkäänniemi et al. 2024) also saves
# the second network call everywhere else. Compare the spread with that of the same scale at all noise levels.

# %%
strongest = SCALES[-1]
limited = f"classifier_free({strongest:g}, interval=(-4, 3))"
print(f"{'':44} as asked         spread (real: 1)")
report(
    f"classifier_free({strongest:g})",
    samples[f"classifier_free({strongest:g})"],
    labels,
)
report(limited, drawn(limited), labels)

# %% [markdown]
# ## No bound with guidance
#
# A guided denoiser is no longer the one that was trained, so a bound computed with it would not be a bound of the
# model. The library refuses to compute one rather than print a misleading number:

# %%
x = jnp.zeros((1, 8, 8, 1))
with_label = run.model.denoiser(
    run.variables, {"label": jnp.array([7]), "dropped": jnp.array([False])}
)
without = run.model.denoiser(
    run.variables, {"label": jnp.array([7]), "dropped": jnp.array([True])}
)
guided = guidance.classifier_free(with_label, without, scale=2.0)
try:
    bounds.continuous_diffusion_loss(
        guided,
        lambda t: 12 * t - 7,
        x,
        jnp.array([0.5]),
        jax.random.normal(jax.random.key(0), x.shape),
    )
except ValueError as error:
    print(f"ValueError: {error}")

# %% [markdown]
# On the command line, `vdm sample --labels=7 --guidance='classifier_free(1)'` draws guided samples from a
# conditional run. [Guidance](../howto/guidance.md) describes the other kinds, and the
# [results](../results/guidance.md) measure them.
