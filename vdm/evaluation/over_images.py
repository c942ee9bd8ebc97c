"""Applies a function to every image of a set, in batches over the devices of a mesh."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from vdm import memory, parallel, precisions
from vdm.data import evaluation_batches, num_evaluated
from vdm.data.dataset import Source
from vdm.evaluation.bound import Progress
from vdm.evaluation.statistics import Groups
from vdm.model import Batch

T = TypeVar("T")


def over_images(
    of_batch: Callable[[Batch], T],
    source: Source,
    mesh: Mesh,
    batch_size: int,
    max_images: int = 0,
    progress: Progress = lambda done, total: None,
) -> tuple[T, Groups | None]:
    """Return (`of_batch` of every image, on the host; the images' groups, if the data have an entry "group").

    Covers every image of `source`, or `max_images` spread over it. `batch_size` is a multiple of the mesh's devices.
    `of_batch` receives padded batches with "index" and "mask", and returns arrays with one entry per image.
    """
    total, done = num_evaluated(source, max_images), 0
    processes = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    found: list[Any] = []
    groups = []
    for batch in evaluation_batches(source, batch_size, max_images=max_images, **processes):
        sharded = parallel.shard_batch(batch, mesh)
        with precisions.products(precisions.FLOAT32), memory.guarded("evaluation", memory.EVALUATION):
            of_images, mask = parallel.to_host((of_batch(sharded), sharded["mask"]))
        found.append(jax.tree.map(lambda of, mask=mask: of[mask], of_images))
        if "group" in batch:
            groups.append(parallel.to_host(sharded["group"])[mask])
        done += int(mask.sum())
        progress(done, total)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found), np.concatenate(groups) if groups else None
