"""The hole problem by β: VAEs with two latents, trained on five clusters over several seeds, as one JSON object.

    python benchmarks/holes.py --workdir=runs/holes > benchmarks/results/holes.json

Each run is the config vae_toy except for β and the seed, in its own folder; finished folders are not trained again. The
figures are the bound, the active units and a comparison of the aggregate posterior with the prior: divergences in nats,
the share of the prior in holes, and MMD² between samples and test data, with z from the prior and with z from the
aggregate posterior. With --diffusion, the last run is a diffusion model of the same data, by the config toy.
"""

import argparse
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm.comparisons.families.latents import Diffusion, Predecessor, Trained
from vdm.data import examples
from vdm.evaluation.holes import holes
from vdm.evaluation.metrics.metric import Reference
from vdm.evaluation.metrics.mmd import Mmd
from vdm.keys import Stream
from vdm.predecessors.config import PredecessorConfig
from vdm.programs import config_files
from vdm.programs.train import train
from vdm.runs.open import open_run
from vdm.runs.records import read_evaluation

SAMPLES, POINTS, DRAWS = 2000, 2000, 20_000


def main() -> None:
    """Train the runs that are missing and print the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="where the runs go")
    parser.add_argument("--betas", default="0.2,0.5,1,2", help="of the rates")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of each")
    parser.add_argument("--diffusion", type=Path, help="a run of a diffusion model of the same data")
    given = parser.parse_args()
    found = []
    for beta in map(float, given.betas.split(",")):
        for seed in range(given.seeds):
            folder = given.workdir / f"beta_{beta:g}-seed_{seed}"
            if not read_evaluation(folder):
                _train(folder, beta, seed, given.steps)
            trained = Predecessor(open_run(folder), "draw")
            found.append({"beta": beta, "seed": seed} | _measured(trained))
    if given.diffusion is not None:
        found.append({"beta": None, "seed": None} | _measured(Diffusion(open_run(given.diffusion))))
    print(
        json.dumps(
            {"steps": given.steps, "samples": SAMPLES, "points": POINTS, "draws": DRAWS, "runs": found}, indent=1
        )
    )


def _train(folder: Path, beta: float, seed: int, steps: int) -> None:
    config = config_files.load(config_files.find("vae_toy"), (PredecessorConfig,)).config
    config.seed, config.objective.beta, config.training.steps = seed, beta, steps
    config.training.steps_per_call, config.training.evaluate_every, config.training.sample_every = 100, 0, 0
    train(config, folder, console=Console(file=io.StringIO()))


def _measured(trained: Trained) -> dict[str, Any]:
    run, bound = trained.run, trained.bound()
    images = examples(run.dataset.train, range(POINTS))["image"]
    of_holes = holes(trained.posterior(images), run.key(Stream.AGGREGATE), DRAWS)
    test = Mmd(Reference.of(examples(run.dataset.test, range(len(run.dataset.test)))["image"]))
    samples = {"prior": trained.samples(SAMPLES), "aggregate": trained.samples_from_aggregate(SAMPLES)}
    nats = trained.model.num_dims * math.log(2)
    return {
        "bound_nats": bound["bits_per_dim"] * nats,
        "reconstruction_nats": bound["reconstruction"] * nats,
        "active": bound["active"],
        "holes": of_holes.to_dict(),
        "mmd": {
            name: {"value": estimate.value, "stderr": estimate.stderr}
            for name, drawn in samples.items()
            if drawn is not None
            for estimate in [test.estimate(np.asarray(drawn))]
        },
    }


if __name__ == "__main__":
    main()
