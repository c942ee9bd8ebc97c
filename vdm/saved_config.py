"""A config file for `--config=…/saved_config.py:WORKDIR`: the config of the run in that folder."""

from pathlib import Path

from vdm.config import Config
from vdm.runs.records import read_config


def get_config(workdir: str) -> Config:
    """The config in `workdir`/config.json."""
    return read_config(Path(workdir))
