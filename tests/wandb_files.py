"""The files of wandb's offline mode, read back as `wandb sync` reads them."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

BLOCK = 1 << 15
"""Bytes, as in LevelDB's logs: what is too long for the rest of a block is cut into pieces."""

PATIENCE = 60


class Session(NamedTuple):
    """What one process wrote."""

    id: str
    project: str
    config: dict[str, Any]
    rows: list[dict[str, Any]]
    """With `_step`, the number of the row; of a picture, its width as NAME/width."""


def sessions(run: Path) -> list[Session]:
    """Those of the run in `run`, the first first."""
    folders = sorted((run / "wandb").glob("offline-run-*"), key=lambda folder: folder.stat().st_mtime_ns)
    return [_session(next(folder.glob("run-*.wandb"))) for folder in folders]


def _session(path: Path) -> Session:
    from wandb.proto import wandb_internal_pb2

    def read() -> list[Any]:
        return [wandb_internal_pb2.Record.FromString(data) for data in _records(path.read_bytes())]

    # A process of wandb's own writes it, and may be late.
    deadline = time.monotonic() + PATIENCE
    while not {"run", "exit"} <= {record.WhichOneof("record_type") for record in read()}:
        assert time.monotonic() < deadline, path
        time.sleep(0.1)
    records = read()
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    return Session(run.run_id, run.project, config, rows)


def _records(data: bytes) -> Iterator[bytes]:
    """After a head of 7 bytes, records with a checksum, a length and a type: whole, or first, middle or last piece."""
    assert data[:4] == b":W&B"
    at, pieces = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""
