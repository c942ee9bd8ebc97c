"""One of the processes of `test_several_processes`: trains on, is stopped, resumes, evaluates and draws samples.

python one_of_several.py COORDINATOR NUM_PROCESSES PROCESS_ID WORKDIR DATA
"""

import os
import signal
import sys
import time
from pathlib import Path

import tiny
from rich.console import Console

from vdm import parallel
from vdm.config import Config, EvaluationConfig, SamplingConfig
from vdm.errors import InputError, Stopped
from vdm.programs.evaluate import Evaluate
from vdm.programs.hooks import every, standard
from vdm.programs.sample import Sample
from vdm.programs.session import Session
from vdm.programs.train import train
from vdm.runs.records import read_config

STEPS, BEGUN, STOPPED_AT = 12, 3, 5


def make_config(data: Path, fsdp: int = 1) -> Config:
    config = tiny.run_config(data, STEPS, log_every=1, checkpoint_every=100, evaluate_every=100, fsdp=fsdp,
                             sample_every=STOPPED_AT)  # fmt: skip
    config.network.channels = 8
    config.evaluation = EvaluationConfig(batch_size=100, draws=1)
    config.sampling = SamplingConfig(num=10, steps=2, batch_size=8)
    return config


def main() -> None:
    coordinator, num_processes, process_id, workdir, data = sys.argv[1:]
    parallel.setup(coordinator=coordinator, num_processes=int(num_processes), process_id=int(process_id))
    config, folder, console = make_config(Path(data), fsdp=2), Path(workdir), Console(quiet=True)

    def stop(session: Session) -> None:
        if session.step == STOPPED_AT and process_id == "1":
            os.kill(os.getpid(), signal.SIGTERM)
            # Until all know of it: the samples that are due now would soon be there.
            time.sleep(2)

    try:
        train(config, folder, hooks=[every(1, stop), *standard()], console=console)
        print("was not stopped")
    except Stopped as stopped:
        print(stopped)
    other = make_config(Path(data))
    other.optimizer.b1 = 0.5
    try:
        train(other, folder, console=console)
    except InputError as error:
        print("refused:", error)
    print("trained:", train(config, folder, console=console, profile=(STOPPED_AT + 2, STOPPED_AT + 3)))
    Evaluate(config, folder, "latest", console).bound([None, 3], None)
    Sample(read_config(folder), folder, "latest", 0, console).images()
    print("done")


if __name__ == "__main__":
    main()
