# %% [markdown]
# # Digits by their captions
#
# Can a model learn what "a bold three" looks like, and combine words that it never saw together?
#
# The captions of `digits_captions` describe what can be measured on each digit: its class, the thickness of its strokes
# and the direction in which it leans. The same measurements tell whether a sample matches its caption, so we can
# quantify how well the model obeys. One combination, sevens that lean left, is held out of training, and we ask for it
# at the end.

# %%
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

import vdm
from vdm.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    NetworkConfig,
    OptimizerConfig,
    SamplingConfig,
    ScheduleConfig,
    TrainingConfig,
)
from vdm.data.captions import DESCRIPTIONS
from vdm.evaluation.images import ImageSampler
from vdm.keys import Stream

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
STEPS, NUM, DEPTH = (4, 8, 1) if SMALL else (1000, 60, 4)

# %% [markdown]
# ## A run
#
# A config describes the data, the model and the training; `vdm.train` does what the command `vdm train` does and writes
# a run into a folder. Captions are split into tokens by byte-pair encoding (`bpe`) and read by a small transformer. One
# caption in ten is dropped in training, so that samples can be guided later.

# %%
config = Config(
    data=DataConfig(
        name="digits_captions(held_out=('seven leaning left',))", text="bpe(length=24)"
    ),
    schedule=ScheduleConfig(name="learned_monotone", gamma_min=-7.5, gamma_max=5.0),
    network=NetworkConfig(
        channels=32,
        depth=DEPTH,
        dropout=0.1,
        condition=("text",),
        condition_dropout=0.1,
    ),
    optimizer=OptimizerConfig(
        learning_rate=2e-3, schedule_learning_rate=2e-2, decay="cosine", ema_decay=0.998
    ),
    training=TrainingConfig(
        steps=STEPS, batch_size=64, evaluate_every=0, sample_every=0, checkpoint_every=0
    ),
    evaluation=EvaluationConfig(batch_size=300, draws=4),
    sampling=SamplingConfig(
        num=NUM, steps=25, sampler="dpm_solver_pp(2)", grid="uniform"
    ),
)
folder = tempfile.TemporaryDirectory()
evaluation = vdm.train(config, folder.name, console=Console(stderr=True))
print(f"test bound, given captions: {evaluation}")

# %% [markdown]
# ## Do samples obey?
#
# For each caption we draw NUM samples at three guidance scales and measure the attribute that the caption names. The
# class is not checked here, because that would take a classifier.

# %%
run = vdm.open_run(Path(folder.name))
description = DESCRIPTIONS["digits_captions"]
asked = (
    "a light three",
    "a bold three",
    "a two leaning right",
    "a six leaning left",
    "a seven leaning left",
)
scales = (0, 1, 3)
sampler = ImageSampler(
    run.model, run.mesh, replace(config.sampling, guidance="classifier_free(0)")
)


def drawn(caption, scale):
    """Draw NUM digits for one caption, always from the same noise."""
    condition = {"text": run.text([caption] * NUM)}
    guidance = f"classifier_free({scale})"
    return sampler(
        run.variables,
        run.key(Stream.SAMPLING),
        NUM,
        condition=condition,
        guidance=guidance,
    )[0]


def obedience(caption, images):
    """Return (attribute, share of the images that match the caption in it)."""
    label = np.full(NUM, int(description.grammar.attributes_of(caption)["class"]))
    measured = description.obeyed(caption, images, label)
    return next(
        (name, np.mean(each))
        for name, each in measured.items()
        if name != "class" and each[0] >= 0
    )


samples = {
    (caption, scale): drawn(caption, scale) for caption in asked for scale in scales
}
print(
    f"{'samples as asked, %':34}" + "".join(f"{f'w = {scale}':>12}" for scale in scales)
)
for caption in asked:
    shares = [obedience(caption, samples[caption, scale]) for scale in scales]
    line = "".join(
        f"{100 * p:6.0f} ± {100 * (p * (1 - p) / NUM) ** 0.5:3.0f}" for _, p in shares
    )
    unseen = "   never seen in training" if caption == asked[-1] else ""
    print(f"{caption + ': ' + shares[0][0]:34}{line}{unseen}")

# %% [markdown]
# The last row tells whether the model has learned the meaning of the words or only the combinations it has seen.

# %%
rows = [
    np.concatenate(
        list(np.pad(samples[c, scales[-1]][:8, ..., 0], ((0, 0), (1, 1), (1, 1)))),
        axis=1,
    )
    for c in asked
]
fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.imshow(np.concatenate(rows), cmap="gray")
axis.set(
    title=f"samples at w = {scales[-1]}",
    xticks=[],
    yticks=[10 * k + 5 for k in range(len(asked))],
)
axis.set_yticklabels(asked)
plt.show()
folder.cleanup()

# %% [markdown]
# This run is short so that it fits an example; the config `digits_captions` trains longer. [Condition on
# text](../howto/text.md) shows how to use captions of your own, and the [results](../results/text.md) report how often
# samples match each attribute.
