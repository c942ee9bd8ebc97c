"""Data sets (`load`, `in_memory`) and the batches made of them.

An element is a dict that holds one image and its other entries: {"image": uint8 (H, W, C), "label": int, …}. A batch
has the same entries, each with a leading batch axis (`train_iterator`, `evaluation_batches`, `examples`).
"""

from vdm.data.arrays import Arrays, in_memory
from vdm.data.dataset import Dataset, DatasetInfo, examples
from vdm.data.pipeline import evaluation_batches, num_evaluated, train_iterator
from vdm.data.selection import selected
from vdm.data.sources import load, resolve

__all__ = [
    "Arrays",
    "Dataset",
    "DatasetInfo",
    "evaluation_batches",
    "examples",
    "in_memory",
    "load",
    "num_evaluated",
    "resolve",
    "selected",
    "train_iterator",
]
