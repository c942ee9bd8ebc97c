# %% [markdown]
# # Compress an image of your own
#
# A bound of b bits/dim promises a code of about b bits for each value of an image. Can we have the file?
#
# Yes: bits-back coding turns the T-step model into a lossless coder. Here we cut a photograph into tiles of 32×32
# pixels, code them with the released model of photographs, decode them again to the last bit, and put the size
# beside that of PNG.

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
# If you name none, it is the portrait of Grace Hopper that comes with matplotlib. The model has never seen it: it
# was trained on photographs from scikit-learn and scikit-image.

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
# The bound of the T-step model, for each tile: fewer bits where there is little to say.

# %%
run = vdm.open_run("vdm:photos32")
draw = jax.jit(lambda t: run.model.bound_at(run.variables, {"image": tiles}, *t).total)


def one_draw(key):
    """(tiles,): bits/dim of each tile as the model of T steps."""
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
# The coder needs the denoiser and the noise levels of the T steps, nothing else. The result is what a file would
# hold.

# %%
gammas = samplers.grid(functools.partial(run.model.gamma, run.variables), T)
denoise = run.model.denoiser(run.variables)
start = time.perf_counter()
coded = codec.encode(tiles, denoise, gammas, levels=256)
print(
    f"{len(coded)} bytes in {time.perf_counter() - start:.0f} s, {8 * len(coded) / tiles.size:.2f} bits/dim"
)

# %% [markdown]
# That is not the bound to the last digit: a file has a header, and the first tiles are coded without the model, because
# there are no bits to get back yet. The more tiles, the less it matters.
#
# ## Decode it

# %%
decoded = codec.decode(coded, denoise, gammas)
print("the same to the last bit:", np.array_equal(decoded, tiles))

# %% [markdown]
# ## Beside PNG
#
# PNG sees the whole picture at once, and not tiles of it.

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
# The price is time: one network call for each step of each tile, in both directions. More steps bring the bound
# down, and so the size; a better model does more. `vdm compress --run=vdm:photos32 --out=pictures.vdm PICTURES`
# codes files of 32×32 pixels from the command line, [Lossless compression](../howto/compression.md) explains the
# file, and the [results](../results/compression.md) compare models with classical coders.
