"""Features from seeds, for this suite and for the peer whose numbers are recorded (fidelity_recipe.py)."""

import numpy as np

FID = {
    "many": (500, 400, 16),
    "fewer than features": (40, 300, 64),
    "both fewer": (30, 25, 64),
    "without rank": (300, 200, 24),
    "constant": (120, 100, 12),
}
"""(samples, real images, features)"""

KID = {"small": (300, 250, 32, 20, 100), "usual": (1200, 1100, 64, 10, 1000), "wide": (60, 80, 128, 30, 50)}
"""(samples, real images, features, subsets, size)"""

PRC = {"flat": (300, 250, 8, 3), "equal": (200, 200, 64, 3), "wide": (60, 80, 128, 5)}
"""(samples, real images, features, neighbours)"""

ISC = {"digits": (500, 10, 10), "inception": (333, 1008, 10), "uneven": (95, 7, 4)}
"""(images, classes, splits)"""


def features(name: str, num: int, dims: int) -> np.ndarray:
    """Correlated and never negative, as pooled activations are; another mean for each name."""
    rng = np.random.RandomState(sum(map(ord, name)))
    mixing = np.random.RandomState(dims).standard_normal((dims, dims)) / np.sqrt(dims)
    x = np.maximum(rng.standard_normal((num, dims)) @ mixing + 0.2 * rng.standard_normal(dims) + 0.3, 0)
    if "rank" in name:
        x[:, dims // 2 :] = x[:, : dims - dims // 2] * 0.5
    if "constant" in name:
        x[:, :3] = 0.25
    return x.astype(np.float32)


def pair(name: str, num: int, real: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    return features(name, num, dims), features(f"real {name}", real, dims)


def logits(name: str, num: int, classes: int) -> np.ndarray:
    return (3 * np.random.RandomState(sum(map(ord, name))).standard_normal((num, classes))).astype(np.float32)
