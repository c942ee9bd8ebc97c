"""Digits by their captions: train on sentences, sample by a sentence, and measure whether samples obey. In cells.

    python examples/captions.py --steps=2500

About eight minutes on two CPU cores. `digits_captions` has sentences of what is measured on each digit (class, stroke
weight, slant, …), and the same measurements tell whether a sample is what its caption asks. Cells begin with `# %%`:
Jupyter (by jupytext), VS Code and Spyder run them one by one.
"""

# %% Settings.
import argparse
from dataclasses import replace

import numpy as np
from PIL import Image

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

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=2500, help="training steps")
parser.add_argument("--num", type=int, default=100, help="samples of each caption")
parser.add_argument("--workdir", default="runs/captions_example", help="the run's folder")
settings = parser.parse_args()

# %% The run: held out of training are sevens that lean left. Images with this combination stay among the test images.
config = Config(
    data=DataConfig(name="digits_captions(held_out=('seven leaning left',))", text="bpe(length=24)"),
    schedule=ScheduleConfig(name="learned_monotone", gamma_min=-7.5, gamma_max=5.0),
    network=NetworkConfig(channels=32, depth=4, dropout=0.1, condition=("text",), condition_dropout=0.1),
    optimizer=OptimizerConfig(learning_rate=2e-3, schedule_learning_rate=2e-2, decay="cosine", ema_decay=0.999),
    training=TrainingConfig(steps=settings.steps, batch_size=64, evaluate_every=0, sample_every=0, checkpoint_every=0),
    evaluation=EvaluationConfig(batch_size=300, draws=4),
    sampling=SamplingConfig(num=settings.num, steps=25, sampler="dpm_solver_pp(2)", grid="uniform"),
)
print(vdm.train(config, settings.workdir), "given captions")

# %% Samples: one compiled program draws for all captions and scales, image k of each from the same latents.
run = vdm.open_run(settings.workdir)
description = DESCRIPTIONS["digits_captions"]
asked = ("a light three", "a bold three", "a two leaning right", "a six leaning left", "a seven leaning left")
guidances = ("classifier_free(0)", "classifier_free(1)", "classifier_free(3)")
sampler = ImageSampler(run.model, run.mesh, replace(config.sampling, guidance=guidances[0]))
key = run.key(Stream.SAMPLING)
print("samples that are as asked, %; the class is taken for right here, a classifier would tell")
print(f"{'':24}" + "".join(f"{guidance:>20}" for guidance in guidances))
rows = []
for caption in asked:
    label = np.full(settings.num, int(description.grammar.attributes_of(caption)["class"]))
    line = f"{caption:24}"
    for guidance in guidances:
        condition = {"text": run.text([caption] * settings.num)}
        images, _ = sampler(run.variables, key, settings.num, condition=condition, guidance=guidance)
        obeyed = description.obeyed(caption, images, label)
        share, of = next((np.mean(each), name) for name, each in obeyed.items() if name != "class" and each[0] >= 0)
        line += f"{of:>12} {100 * share:4.0f} ± {100 * (share * (1 - share) / settings.num) ** 0.5:.0f}"
    rows.append(images[:8])
    print(line + ("   never seen in training" if caption == asked[-1] else ""))

# %% A picture: a row a caption, with the strongest guidance.
tiles = np.pad(np.stack(rows)[..., 0] * 15, ((0, 0), (0, 0), (1, 1), (1, 1))).astype(np.uint8)
picture = np.concatenate([np.concatenate(list(row), axis=1) for row in tiles], axis=0)
file = f"{settings.workdir}/captions.png"
Image.fromarray(picture).resize((6 * picture.shape[1], 6 * picture.shape[0]), Image.Resampling.NEAREST).save(file)
print(f"wrote {file}: a row for each of {', '.join(map(repr, asked))}")
