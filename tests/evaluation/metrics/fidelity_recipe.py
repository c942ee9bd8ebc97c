"""How fidelity.npz was made, where torch is:

    pip install torch==2.14.1 torchvision==0.29.1 torch-fidelity==0.4.0
    python tests/evaluation/metrics/fidelity_recipe.py

Numbers of torch-fidelity's own functions on the feature matrices of peer_features.py, which are made from seeds.
"""

from pathlib import Path

import numpy as np
import peer_features
import torch
import torch_fidelity
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

found = {}
for name, (*shape,) in peer_features.FID.items():
    a, b = (fid_features_to_statistics(torch.from_numpy(x)) for x in peer_features.pair(name, *shape))
    found[f"fid {name}"] = fid_statistics_to_metric(a, b, False)["frechet_inception_distance"]
for name, (*shape, subsets, size) in peer_features.KID.items():
    x, y = (torch.from_numpy(x) for x in peer_features.pair(name, *shape))
    # In double precision: what float32 adds is the peer's rounding, not its definition.
    for precision, (a, b) in {"": (x, y), " double": (x.double(), y.double())}.items():
        metric = kid_features_to_metric(a, b, kid_subsets=subsets, kid_subset_size=size, verbose=False)
        found[f"kid {name}{precision}"] = metric["kernel_inception_distance_mean"]
for name, (*shape, k) in peer_features.PRC.items():
    x, y = (torch.from_numpy(x) for x in peer_features.pair(name, *shape))
    metric = prc_features_to_metric(x, y, prc_neighborhood=k, verbose=False)
    found[f"precision {name}"], found[f"recall {name}"] = metric["precision"], metric["recall"]
for name, (num, classes, splits) in peer_features.ISC.items():
    metric = isc_features_to_metric(torch.from_numpy(peer_features.logits(name, num, classes)), splits)
    found[f"isc {name}"] = metric["inception_score_mean"]
versions = f"torch {torch.__version__}, torch-fidelity {torch_fidelity.__version__}, numpy {np.__version__}"
np.savez(Path(__file__).parent / "fidelity.npz", versions=versions, **found)
print(versions, *(f"{name}: {value!r}" for name, value in found.items()), sep="\n")
