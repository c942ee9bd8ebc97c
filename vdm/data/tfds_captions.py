"""Captions in prepared TFDS data, read without decoding the images."""

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow_datasets as tfds

from vdm.errors import InputError

NAMES = ("caption", "captions", "text")
"""Names of caption features, and of the texts inside a compound feature, in order of preference."""


class Feature(NamedTuple):
    """Where the captions are: in the feature `name` itself, or in the sub-feature `inside` of each of its items."""

    name: str
    inside: str | None = None


def feature_of(features: tfds.features.FeaturesDict) -> Feature | None:
    """Find the caption feature by name: a text, a sequence of texts, or (a sequence of) dicts with a text; or None.

    >>> texts = tfds.features.Sequence({"text": tfds.features.Text()})
    >>> feature_of(tfds.features.FeaturesDict({"captions": texts}))
    Feature(name='captions', inside='text')
    """
    for name in [name for name in NAMES if name in features]:
        feature = features[name]
        of_each = feature.feature if isinstance(feature, tfds.features.Sequence) else feature
        if isinstance(of_each, tfds.features.Text):
            return Feature(name)
        if isinstance(of_each, tfds.features.FeaturesDict):
            for inside in NAMES:
                if inside in of_each and isinstance(of_each[inside], tfds.features.Text):
                    return Feature(name, inside)
    return None


def of_splits(
    builder: tfds.core.DatasetBuilder, splits: Sequence[str], dataset: str
) -> dict[str, list[tuple[str, ...]]]:
    """Return all captions of each record, by split; empty if the data have none. Raises `InputError` if not UTF-8."""
    feature = feature_of(builder.info.features)
    return {} if feature is None else {split: _read(builder, split, feature, dataset) for split in splits}


def _read(builder: tfds.core.DatasetBuilder, split: str, feature: Feature, dataset: str) -> list[tuple[str, ...]]:
    # Features with skipped decoding are returned raw, which is fast.
    decoders = {name: tfds.decode.SkipDecoding() for name in builder.info.features if name != feature.name}
    records = builder.as_data_source(split, file_format="array_record", decoders=decoders)
    found = []
    for index in range(len(records)):
        value = records[index][feature.name]
        texts = value if feature.inside is None else value[feature.inside]
        try:
            found.append(tuple(map(_decoded, [texts] if isinstance(texts, bytes | str) else texts)))
        except UnicodeDecodeError as error:
            raise InputError(f"data set {dataset!r}: {split} element {index}: caption is not valid UTF-8") from error
    return found


def _decoded(text: bytes | str) -> str:
    return text.decode() if isinstance(text, bytes) else text
