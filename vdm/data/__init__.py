"""Data: where images come from (`load`) and how batches of them are made (`train_iterator`, `evaluation_batches`)."""

from vdm.data.dataset import Dataset, DatasetInfo
from vdm.data.pipeline import evaluation_batches, num_evaluated, train_iterator
from vdm.data.sources import load, resolve

__all__ = ["Dataset", "DatasetInfo", "evaluation_batches", "load", "num_evaluated", "resolve", "train_iterator"]
