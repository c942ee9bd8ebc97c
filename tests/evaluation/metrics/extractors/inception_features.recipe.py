"""Writes inception_features.npz: what torch-fidelity's `inception-v3-compat` makes of inception_state.py's weights.

    python inception_features.recipe.py

Recorded with Python 3.11, torch 2.14.1, torchvision 0.29.1, torch-fidelity 0.4.0 and numpy 2.4.6, on a CPU.
"tensors" is the text of its state dict's names and shapes, a line each. "spatial" is the output of Mixed_6d.branch1x1,
which is TensorFlow's mixed_6/conv, of which the first seven channels are taken, by rows, columns and channels.
"""

import tempfile
from pathlib import Path
from unittest import mock

import inception_state
import numpy as np
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

OUTPUTS = ["2048", "logits_unbiased", "logits"]

with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict"), tempfile.NamedTemporaryFile() as file:
    torch.save({}, file.name)
    blank = FeatureExtractorInceptionV3("blank", OUTPUTS, feature_extractor_weights_path=file.name)
shapes = {name: tuple(x.shape) for name, x in blank.state_dict().items() if x.ndim}
state = inception_state.state(shapes)
with tempfile.NamedTemporaryFile() as file:
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, file.name)
    network = FeatureExtractorInceptionV3("random", OUTPUTS, feature_extractor_weights_path=file.name)

spatial = []
network.Mixed_6d.branch1x1.register_forward_hook(lambda module, x, y: spatial.append(y[:, :7].permute(0, 2, 3, 1)))
found = []
for image in inception_state.images():
    grey_or_not = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    found.append([x.numpy()[0] for x in network(torch.from_numpy(grey_or_not).permute(0, 3, 1, 2))])
pool, unbiased, logits = (np.stack(each) for each in zip(*found, strict=True))
np.savez_compressed(
    Path(__file__).with_name("inception_features.npz"),
    pool=pool,
    logits=logits,
    logits_unbiased=unbiased,
    spatial=torch.cat(spatial).flatten(1).numpy(),
    tensors=np.frombuffer("\n".join(f"{name} {shape}" for name, shape in shapes.items()).encode(), np.uint8),
)
for name, each in {"pool": pool, "logits": logits, "spatial": torch.cat(spatial).numpy()}.items():
    print(name, each.shape, "rms", np.sqrt((each**2).mean()), "share of 0", (each == 0).mean())
    print("  of one image to another", np.sqrt(((each[:1] - each) ** 2).mean(axis=tuple(range(1, each.ndim)))))
