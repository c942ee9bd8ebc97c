"""Open an image–text model from disk, to guide a sampler or to match captions with images (`open_clip`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from vdm import image_text
from vdm.data.texts import Text
from vdm.errors import InputError
from vdm.image_text import ImageText, ImageTextConfig
from vdm.model import Variables
from vdm.runs.classifiers import restored
from vdm.runs.folder import differing_data
from vdm.runs.records import read_config, read_record
from vdm.runs.texts import FILE, read_text


class OpenedClip(NamedTuple):
    """An image–text model, as returned by `open_clip`."""

    model: ImageText
    variables: Variables
    """The moving average of the model's variables."""
    text: Text
    """The encoder of captions."""


def open_clip(
    path: str | Path,
    data: Mapping[str, Any] | None = None,
    checkpoint: str | int = "latest",
    *,
    mesh: Mesh | None = None,
) -> OpenedClip:
    """Open the image–text model that `vdm clip` saved in `path`, with the encoder of its captions.

        clip, variables, text = open_clip("runs/digits/clip", read_record(run.path)["data"])
        f = clip.image_features(variables, z, gamma)                      # (batch, features)
        g = clip.text_features(variables, text(["a bold seven"]))         # (1, features)

    `data` is the record (`DatasetInfo.to_dict()`) of the data whose images it must accept: shape and levels are
    compared. `checkpoint` is `latest`, `best` (by the loss during training) or a step. The variables are placed on
    `mesh`.

    Raises `InputError` if there is no image–text model, it cannot be read, or it was trained on images of another shape
    or number of levels.
    """
    path = Path(path)
    config: ImageTextConfig = read_config(path, ImageTextConfig)
    there = read_record(path).get("data", {})
    of_images = {name: there[name] for name in ("shape", "levels") if name in there}
    if data is not None and (differing := differing_data(of_images, dict(data))):
        raise InputError(f"{path}: is an image-text model of other images: {', '.join(differing)}")
    text = read_text(path)
    if text is None:
        raise InputError(f"{path}: has no {FILE}, which says how captions are encoded")
    model = image_text.from_config(config)
    return OpenedClip(model, restored(path, model, checkpoint, mesh), text)
