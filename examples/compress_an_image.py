# %% [markdown]
# # Compress an image of your own
#
# A bound of b bits/dim promises a code of about b bits for each value of an image. Can we have the file?
#
# Yes: bits-back coding turns a T-step model into a lossless coder. Here we cut a photograph into tiles of 32×32 pixels,
# code them with the released model of photographs, decode them without loss, and compare the size with that of PNG.

# %%
import functools
import io
import os
import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from PIL import Image

import vdm
from vdm import bounds, codec, samplers

SMALL = os.environ.get("VDM_EXAMPLES") == "small"
TILES, T, DRAWS = (2, 10, 1) if SMALL else (7, 100, 8)
PICTURE = ""  # the path of your own picture

# %% [markdown]
# ## The picture
#
# By default this is the portrait of Grace Hopper that ships with matplotlib. The model has never seen it, since it was
# trained on photographs from scikit-learn and scikit-image.

# %%
with Image.open(PICTURE or cbook.get_sample_data("grace_hopper.jpg")) as opened:
    photo = np.asarray(opened.convert("RGB"))
side = 32 * TILES
top, left = ((size - side) // 2 for size in photo.shape[:2])
crop = photo[top : top + side, left : left + side]
tiles = crop.reshape(TILES, 32, TILES, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
print(
    f"{side}×{side} pixels from the middle of {photo.shape[1]}×{photo.shape[0]}: {len(tiles)} tiles"
)

# %% [markdown]
# ## What the bound promises
#
# First we compute the bound of the T-step model for each tile. Tiles with little detail need fewer bits.

# %%
run = vdm.open_run("vdm:photos32")
draw = jax.jit(lambda t: run.model.bound_at(run.variables, {"image": tiles}, *t).total)


def one_draw(key):
    """Return a single-draw estimate of the T-step bound of each tile in bits/dim: (tiles,)."""
    draws = run.model.draw(key, len(tiles))
    levels = bounds.noise_levels(
        functools.partial(run.model.gamma, run.variables), draws.t, T
    )
    return bounds.bits_per_dim(draw((draws, *levels)), run.model.num_dims)


promised = np.mean(
    [one_draw(key) for key in jax.random.split(jax.random.key(0), DRAWS)], axis=0
)
print(f"bound at T = {T}: {promised.mean():.2f} bits/dim")

fig, (photograph, cost) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
photograph.imshow(crop)
photograph.set(title="the picture", xticks=[], yticks=[])
shown = cost.imshow(promised.reshape(TILES, TILES), cmap="magma")
cost.set(title="bound of each tile", xticks=[], yticks=[])
fig.colorbar(shown, label="bits/dim")
plt.show()

# %% [markdown]
# ## Code it
#
# The coder needs only the denoiser and the noise levels of the T steps. The result is the content of a file.

# %%
gammas = samplers.grid(functools.partial(run.model.gamma, run.variables), T)
denoise = run.model.denoiser(run.variables)
start = time.perf_counter()
coded = codec.encode(tiles, denoise, gammas, levels=256)
print(
    f"{len(coded)} bytes in {time.perf_counter() - start:.0f} s, {8 * len(coded) / tiles.size:.2f} bits/dim"
)

# %% [markdown]
# This is a little more than the bound: a file has a header, and the first tiles are coded without the model because
# there are no bits to get back yet. The more tiles there are, the less this matters.
#
# ## Decode it

# %%
decoded = codec.decode(coded, denoise, gammas)
print("the same to the last bit:", np.array_equal(decoded, tiles))

# %% [markdown]
# ## Beside PNG
#
# PNG has an advantage: it sees the whole picture at once instead of tiles.

# %%
with io.BytesIO() as file:
    Image.fromarray(crop).save(file, "PNG", optimize=True)
    png = len(file.getvalue())
for name, size in (
    ("raw", crop.size),
    ("PNG", png),
    (f"this model, T = {T}", len(coded)),
):
    print(f"{name:22}{size:8} bytes  {8 * size / crop.size:.2f} bits/dim")

# %% [markdown]
# The price is time: one network call for each step of each tile, both to encode and to decode. More steps lower the
# bound and thus the size, but a better model helps more. `vdm compress --run=vdm:photos32 --out=pictures.vdm PICTURES`
# codes image files of 32×32 pixels from the command line, [Lossless compression](../howto/compression.md) explains the
# file format, and the [results](../results/compression.md) compare models with classical coders.
