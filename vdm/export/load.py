"""Draw images with the exported sampler in this file's folder; this needs only jax, numpy and flatbuffers.

python load.py --num=16 --seed=0 --out=images.npz

Image k of a seed is always the same, and equal to the one that vdm sample draws from this checkpoint with these
settings. A conditional model needs --condition=FILE, an npz file with the arrays named in export.json, one row per
image.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

HERE = Path(__file__).parent


def load(name: str, folder: Path = HERE) -> tuple[Callable[..., Any], dict[str, jax.Array]]:
    """Return (program, weights) of "sampler" or "denoiser"; the program is jitted and takes the weights first.

    Raises a ValueError that names the file if one is damaged.
    """
    program = folder / f"{name}.bin"
    with _named(program):
        exported = export.deserialize(bytearray(program.read_bytes()))
    weights = {key: jax.device_put(value) for key, value in arrays(folder / "weights.npz").items()}
    return jax.jit(exported.call), weights


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file. Raises a ValueError that names the file if it is of another kind or damaged."""
    with _named(path), zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist()]
    with _named(path), np.load(path, allow_pickle=False) as file:
        return {name: np.asarray(file[name]) for name in names}


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn any error that a damaged file causes into a ValueError that names the file."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # ValueError, BadZipFile, zlib.error, …, and whatever deserializing raises
        raise ValueError(
            f"{path}: cannot be read ({(str(error).splitlines() or [type(error).__name__])[0]})"
        ) from error


def record_of(folder: Path) -> dict[str, Any]:
    """Read export.json of a folder. Raises ValueError if it is damaged, or does not describe an export."""
    path = folder / "export.json"
    with _named(path):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["condition"], dict) or not isinstance(record["batch_size"], int | None):
            raise ValueError("condition or batch_size is of another type")
        return dict(record)


def draw(
    seed: int,
    first: int,
    num: int,
    batch_size: int = 64,
    folder: Path = HERE,
    condition: dict[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Draw images `first` … `first` + `num` − 1 of a seed, uint8 (num, height, width, channels).

    `condition` has the arrays named in export.json, with `num` rows each. Raises ValueError for any other condition,
    and if an image becomes non-finite.
    """
    record = record_of(folder)
    batch_size = record["batch_size"] or min(batch_size, num)
    rows = conditions(record, num, condition)
    sample, weights = load("sampler", folder)
    images = []
    for start in range(first, first + num, batch_size):
        # The last batch is as large as the others, so that one program serves all.
        numbers = np.arange(start, start + batch_size, dtype=np.int32)
        of_these = [{name: row[np.minimum(numbers - first, num - 1)] for name, row in one.items()} for one in rows]
        image, bad_step = sample(weights, np.uint32(seed), numbers, *of_these)
        if np.any(np.asarray(bad_step)[: first + num - start] >= 0):
            raise ValueError(f"images {start} to {start + batch_size - 1} of seed {seed} are not all finite")
        images.append(np.asarray(image))
    return np.concatenate(images)[:num]


def conditions(
    record: dict[str, Any], num: int, condition: dict[str, np.ndarray] | None
) -> list[dict[str, np.ndarray]]:
    """Return the condition, in the programs' dtypes, as a list of their last argument, empty without a condition."""
    wanted, given = record["condition"], condition or {}
    if set(wanted) != set(given):
        raise ValueError(f"condition: has {sorted(given) or 'nothing'}, must have {sorted(wanted) or 'nothing'}")
    for name, like in wanted.items():
        if np.shape(given[name]) != (num, *like["shape"]):
            shape = (num, *like["shape"])
            raise ValueError(f"condition {name!r}: has shape {np.shape(given[name])}, must have {shape}")
    return [{name: np.asarray(given[name], like["dtype"]) for name, like in wanted.items()}] if wanted else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=16, help="images to draw (default: 16)")
    parser.add_argument("--first", type=int, default=0, help="number of the first image (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all randomness (default: 0)")
    parser.add_argument("--batch_size", type=int, default=64, help="images per call (default: 64, or as exported)")
    parser.add_argument("--condition", type=Path, help="npz file with the condition of each image")
    parser.add_argument("--out", type=Path, default=Path("images.npz"), help="npz file (default: images.npz)")
    given = parser.parse_args()
    if min(given.num, given.batch_size) < 1 or min(given.first, given.seed) < 0 or given.seed >= 2**32:
        parser.error("--num and --batch_size must be 1 or more, --first 0 or more, --seed from 0 to 2**32 - 1")
    if max(given.first + given.num, given.batch_size) >= 2**31:
        parser.error("--first + --num and --batch_size must be below 2**31: numbers of images are int32")
    try:
        condition = arrays(given.condition) if given.condition else None
        images = draw(given.seed, given.first, given.num, given.batch_size, condition=condition)
        np.savez_compressed(given.out, images=images)
    except (OSError, ValueError, TypeError, KeyError) as error:  # KeyError: program and weights of different exports
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    print(given.out)


if __name__ == "__main__":
    main()
