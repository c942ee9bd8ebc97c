"""compare.py --by=text: how well the samples of a text-conditional model follow their captions, by guidance."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vdm import parts
from vdm.comparisons.led import UNGUIDED, LedSamplers
from vdm.comparisons.texts.plot import plot
from vdm.comparisons.texts.settings import TextSettings
from vdm.comparisons.texts.table import HELD_OUT, NO_TEXT, REAL, TEST, TEXT, Row, markdown
from vdm.comparisons.work import (
    Programs,
    Work,
    estimate_of,
    file_name,
    provenance,
    read_measured,
    record_of,
    write_measured,
)
from vdm.config import Config, validate
from vdm.data import examples
from vdm.data.captions import DESCRIPTIONS, Description
from vdm.data.selection import CHOICE, order
from vdm.data.texts import TEXT as ENTRY
from vdm.errors import InputError
from vdm.evaluation.images import check_steps
from vdm.evaluation.metrics import Estimate
from vdm.evaluation.metrics.extractors.classifier import Opened
from vdm.evaluation.obedience import obedience
from vdm.files import replace_text, write_json
from vdm.keys import Stream, stream_key
from vdm.model import DROPPED
from vdm.progress import progress_of
from vdm.runs.folder import lock
from vdm.runs.open import Run, open_run
from vdm.runs.records import weights_digest
from vdm.settings import check


def compare_text(
    config: Config,
    settings: TextSettings,
    workdir: Path,
    console: Console,
    programs: Programs,
    run: Path,
    checkpoint: str,
) -> str:
    """Compare how captions are followed at a checkpoint of the run in `run`; return the Markdown tables.

    Measures what is missing. WORKDIR/cells/ holds a file for each guidance method and kind of captions; text.json,
    text.md and text.png are made from them and updated after each method. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    check_steps(config.sampling, config.objective.num_steps)
    trained = open_run(run, checkpoint, config=config)
    if ENTRY not in trained.model.condition:
        raise InputError(f"--run={run}: was trained without captions; must be of a config such as digits_captions")
    source = parts.read("source", config.data.name) if "(" in config.data.name else None
    name = config.data.name if source is None else source.name
    if name not in DESCRIPTIONS:
        described = " or ".join(DESCRIPTIONS)
        raise InputError(
            f"--run={run}: there are no measurements for captions of {config.data.name!r}; must be {described}"
        )
    held_out = () if source is None else source.arguments.get("held_out", ())
    samplers = LedSamplers(trained, replace(config.sampling, num=settings.samples), [UNGUIDED, *settings.guidances])
    folder = None if settings.classifier is None else Path(settings.classifier)
    opened = programs.classifier(trained.dataset, folder)() if trained.dataset.info.classes is not None else None
    with lock(workdir):
        return _Texts(trained, settings, DESCRIPTIONS[name], held_out, samplers, opened, workdir, console).run()


class _Texts:
    def __init__(
        self,
        trained: Run,
        settings: TextSettings,
        description: Description,
        held_out: Sequence[str],
        samplers: LedSamplers,
        opened: Opened | None,
        workdir: Path,
        console: Console,
    ):
        self.trained, self.config, self.settings = trained, trained.config, settings
        self.description, self.samplers, self.opened = description, samplers, opened
        self.workdir, self.console = workdir, console
        self.weights = weights_digest(trained.variables)
        self.held_out = [description.grammar.combination(text) for text in held_out]
        self.test, self.real = self._of_test_images()
        self.asked = {TEST: self.test} | ({HELD_OUT: self._combinations()} if held_out else {})

    def run(self) -> str:
        (self.workdir / "cells").mkdir(exist_ok=True)
        dropped = [NO_TEXT] * bool(self.trained.model.condition_dropout)
        names = [*dropped, TEXT, *self.settings.guidances]
        work = Work(len(names) * len(self.asked))
        of_real = obedience(self.description, self.test, self.real, self.opened)
        rows: list[Row] = []
        table = ""
        for name in names:
            estimates: dict[str, Mapping[str, Estimate]] = {}
            for asked, captions in self.asked.items():
                path = self.workdir / "cells" / f"{file_name(name, asked)}.json"
                measured = read_measured(path, self._settings(name, captions), ())
                work.advance(1, skip=measured is not None)
                if measured is None:
                    measured = record_of(self._measure(name, captions))
                    write_measured(path, measured, self._settings(name, captions))
                estimates[asked] = {each: estimate_of(measured, each, path) for each in measured["metrics"]}
                said = ", ".join(f"{each} {found.value:.1f} %" for each, found in estimates[asked].items())
                self.console.print(f"{name}, {asked}: {said}; {work}", style="bold")
            rows.append(Row(name, estimates))
            table = self._write([*rows, Row(REAL, {TEST: of_real})])
        self.console.print(f"wrote text.json, text.md and text.png to {self.workdir}/", soft_wrap=True)
        return table

    def _of_test_images(self) -> tuple[list[str], np.ndarray]:
        """Return first captions and images of the test split in the order of `selection`, without those held out."""
        source = self.trained.dataset.test
        batch = examples(source, order(len(source)))
        grammar = self.description.grammar
        captions = [several[0] for several in self.description.captions(batch["image"], batch.get("label"))]
        said = [grammar.attributes_of(caption) for caption in captions]
        seen = [not any(each.items() >= combination.items() for combination in self.held_out) for each in said]
        kept = np.flatnonzero(seen)
        return [captions[k] for k in kept], batch["image"][kept]

    def _combinations(self) -> list[str]:
        """Return a sentence for each held-out combination."""
        grammar = self.description.grammar
        return [grammar.captions(dict.fromkeys(grammar.phrases, "") | each)[0] for each in self.held_out]

    def _settings(self, name: str, captions: Sequence[str]) -> dict[str, Any]:
        """Return everything that the numbers of a cell depend on."""
        guidance = UNGUIDED if name in (TEXT, NO_TEXT) else name
        return {
            "row": name,
            "captions": list(captions),
            "sampling": asdict(self.samplers.settings(guidance)),
            "seed": self.config.seed,
            "weights": self.weights,
            "companions": self.samplers.digests(guidance),
            "data": self.trained.dataset.info.to_dict(),
            "classifier": None if self.opened is None else self.opened.digest,
            "choice": CHOICE,
        }

    def _measure(self, name: str, captions: Sequence[str]) -> dict[str, Estimate]:
        """Measure obedience; image k of every row has the same latents and caption (k modulo their number)."""
        num, key = self.settings.samples, stream_key(self.config.seed, Stream.SAMPLING)
        asked = [captions[k % len(captions)] for k in range(num)]
        text = self.trained.text
        assert text is not None
        condition = {ENTRY: text(asked)}
        if name == NO_TEXT:
            condition[DROPPED] = np.ones(num, bool)
        guidance = UNGUIDED if name in (TEXT, NO_TEXT) else name
        sampler = self.samplers(guidance)
        with progress_of(self.console, name) as progress:
            images, _ = sampler(self.trained.variables, key, num, progress, condition=condition, guidance=guidance)
        return obedience(self.description, asked, images, self.opened)

    def _write(self, rows: list[Row]) -> str:
        table = markdown(rows)
        record = {
            "outcomes": [
                {
                    "guidance": row.name,
                    "obeyed": {
                        asked: {name: {"value": e.value, "stderr": e.stderr} for name, e in estimates.items()}
                        for asked, estimates in row.estimates.items()
                    },
                }
                for row in rows
            ],
            "captions": self.asked,
            "checkpoint_step": self.trained.step,
            "run": self.trained.name,
        } | provenance(self.config, self.settings, self.trained.dataset, self.trained.mesh)
        write_json(self.workdir / "text.json", record)
        replace_text(self.workdir / "text.md", table + "\n")
        plot(self.workdir / "text.png", rows)
        return table
