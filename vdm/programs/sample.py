"""sample.py: images from a run's checkpoint."""

from pathlib import Path

import numpy as np
from rich.console import Console

from vdm import model as model_lib
from vdm import parallel, pictures
from vdm.config import Config, validate
from vdm.errors import InputError
from vdm.evaluation.sampling import ImageSampler, frame_steps
from vdm.training.loop import restore
from vdm.training.rundir import check_same_model, read_config
from vdm.training.session import progress_of
from vdm.training.state import Stream, stream_key


def sample(config: Config, workdir: Path, checkpoint: str, seed: int, num_frames: int, console: Console) -> Path:
    """Draws images from the moving average of a checkpoint into WORKDIR/samples; returns the path of the grid."""
    validate(config)
    if seed < 0 or num_frames < 0:
        raise InputError(f"--seed={seed} --trajectory={num_frames}: must be 0 or more")
    check_same_model(read_config(workdir), config, workdir)
    settings = config.sampling
    mesh = parallel.make_mesh()
    state = restore(config, workdir, mesh, checkpoint)
    frames = frame_steps(num_frames, settings.steps) if num_frames else []
    model = model_lib.from_config(config)
    sampler = ImageSampler(model, mesh, settings, frames)
    with progress_of(console, "sampling") as progress:
        images, kept = sampler(state.ema, stream_key(seed, Stream.SAMPLING), settings.num, progress)
    stem = workdir / "samples" / f"step_{state.step}_seed_{seed}_T_{settings.steps}"
    grid = stem.with_suffix(".png")
    pictures.grid(images, grid, model.levels)
    np.savez_compressed(stem.with_suffix(".npz"), images=images)
    written = [grid, stem.with_suffix(".npz")]
    if frames:
        written += [stem.with_name(stem.name + "_strip.png"), stem.with_suffix(".gif")]
        pictures.strip(kept[:, :8], written[2])
        pictures.animation(kept, written[3])
    for path in written:
        console.print(f"wrote {path}")
    return grid
