"""torch-fidelity's side of inception.py, run by an interpreter that has it.

PYTHON benchmarks/inception_peer.py FOLDER, with weights and images in FOLDER. First it writes the features of all
images. Then, for each line of standard input with a batch size, it computes them again and prints the seconds.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def main() -> None:
    folder = Path(sys.argv[1])
    with np.load(folder / "state.npz") as state, tempfile.NamedTemporaryFile() as file:
        torch.save({name: torch.from_numpy(state[name]) for name in state.files}, file.name)
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=file.name)
    images = torch.from_numpy(np.load(folder / "images.npy")).permute(0, 3, 1, 2).contiguous()
    # As torch-fidelity itself does without a GPU: eagerly, in its own dtype and memory layout.
    with torch.no_grad():
        np.save(folder / "pool.npy", torch.cat([network(batch)[0] for batch in images.split(8)]).numpy())
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            for batch in images.split(int(line)):
                network(batch)
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
