"""Weights & Biases (wandb.ai): the numbers, pictures and hyperparameters of a run, online or for later upload."""

import importlib.util
import io
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from vdm.errors import InputError, one_line
from vdm.files import write_json
from vdm.reading import field, read_json
from vdm.runs.trackers.tracker import Numbers, TrackedRun, Tracker, curves, group

LIBRARY = "wandb"
INSTALL = "pip install 'vdm[wandb]'"

STATE = "vdm.json"
"""File in the run's folder wandb/ with the ID of the wandb run and the steps already logged to it."""

PATIENCE = 60
"""Seconds to wait for pending uploads at the end of training; the rest stays in wandb/, for `wandb sync`."""

STEP = "step"
"""Name of the number on the horizontal axis of every chart."""


@dataclass
class Wandb(Tracker):
    """Weights & Biases; needs `pip install 'vdm[wandb]'`, and `wandb login` unless the mode is "offline".

    Files are in the run's folder wandb/; `wandb sync` uploads those of the mode "offline". If `mode` is None, the
    environment variable WANDB_MODE decides, and otherwise it is "online". `name` defaults to that of the run's folder.

    A resumed run continues the same wandb run. Since wandb only appends rows, what an earlier session has logged is not
    logged again.

    >>> Wandb(project="mine", mode="offline").name is None
    True
    """

    project: str = "vdm"
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["online", "offline", "disabled"] | None = None

    def check(self) -> None:
        spec = importlib.util.find_spec(LIBRARY)
        if spec is None or spec.origin is None:  # no origin: a plain folder wandb/, such as the library itself creates
            raise InputError(f"config.training.loggers: wandb is not installed: {INSTALL}")

    def start(self, run: TrackedRun) -> None:
        self.check()
        folder = run.path / "wandb"
        folder.mkdir(exist_ok=True)
        self._state = state = _State.read(folder / STATE) if run.step else _State.new(folder / STATE)
        library = importlib.import_module(LIBRARY)
        settings = library.Settings(silent=True, console="off", save_code=False, finish_timeout=PATIENCE,
                                    finish_timeout_raises=True)  # fmt: skip
        try:
            self._run = library.init(
                project=self.project,
                entity=self.entity,
                name=self.name or (None if state.rows else run.path.absolute().name),  # it may have been renamed there
                group=self.group,
                tags=list(self.tags),
                mode=self.mode,
                dir=str(run.path),
                id=state.id,
                resume="allow",
                reinit="create_new",
                config=dict(run.hyperparameters),
                allow_val_change=True,
                settings=settings,
            )
        except Exception as error:  # the library may raise anything, as when the network fails
            raise InputError(
                f"config.training.loggers: wandb: {one_line(error)}; mode='offline' needs no network"
            ) from error
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)
        state.write()

    def scalars(self, kind: str, step: int, numbers: Numbers) -> None:
        named = {f"{group(kind)}/{name}": value for name, value in curves(numbers).items()}
        self._log(kind, step, named)

    def picture(self, kind: str, step: int, name: str, png: bytes) -> None:
        called = f"{group(kind)}/{name}"
        with Image.open(io.BytesIO(png)) as image:
            self._log(called, step, {called: importlib.import_module(LIBRARY).Image(image)})

    def close(self) -> None:
        self._run.finish()

    def _log(self, what: str, step: int, values: dict[str, Any]) -> None:
        """Log a row, unless this or a later step has been logged already."""
        if step <= self._state.sent.get(what, -1):
            return
        # wandb's `step=` numbers the rows; one step of training may have several, even from two sessions.
        self._run.log({**values, STEP: step}, step=self._state.rows, commit=True)
        self._state.sent[what] = step
        self._state.rows += 1
        self._state.write()


@dataclass
class _State:
    """What has been logged so far, stored for later sessions."""

    path: Path
    id: str
    rows: int
    sent: dict[str, int]
    """Step of the last row of each kind of record, and of each picture."""

    @classmethod
    def new(cls, path: Path) -> "_State":
        return cls(path, secrets.token_hex(4), 0, {})

    @classmethod
    def read(cls, path: Path) -> "_State":
        """Read the state of the previous session, or create a new one if that had no wandb tracker."""
        if not path.exists():
            return cls.new(path)
        values = read_json(path)
        sent = field(values, "sent", dict, path)
        return cls(
            path, field(values, "id", str, path), field(values, "rows", int, path),
            {name: field(sent, (name,), int, path) for name in sent},
        )  # fmt: skip

    def write(self) -> None:
        write_json(self.path, {"id": self.id, "rows": self.rows, "sent": self.sent})
