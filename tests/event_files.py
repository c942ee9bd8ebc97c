"""TensorBoard's files, read back as TensorBoard reads them."""

import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog


def events(path: Path) -> list[Event]:
    """Those of one file, without their checksums."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def read(folder: Path) -> dict[str, dict[str, list[tuple[int, Any]]]]:
    """[(step, value), …] by run and tag; the start of a session hides all that came before from its step on."""
    runs: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    for run in ("", *(path.name for path in folder.iterdir() if path.is_dir())):
        seen: dict[str, list[tuple[int, Any]]] = defaultdict(list)
        for path in sorted((folder / run).glob("events.*")):
            for event in events(path):
                if event.session_log.status == SessionLog.START:
                    seen = defaultdict(list, {t: [p for p in old if p[0] < event.step] for t, old in seen.items()})
                for value in event.summary.value:
                    shown = value.image.encoded_image_string or value.tensor.string_val or value.simple_value
                    seen[value.tag].append((event.step, shown))
        runs[run] = {tag: points for tag, points in seen.items() if points}
    return runs
