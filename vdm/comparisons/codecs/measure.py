"""compare.py --by=codec: the file sizes of a trained model's codec for each T, and those of classical coders."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from vdm import memory
from vdm.codec.coding import here
from vdm.codec.container import Header
from vdm.comparisons.codecs import classical
from vdm.comparisons.codecs.classical import CODERS, Outcome
from vdm.comparisons.codecs.coded import Coded, Images, bits_of, coded
from vdm.comparisons.codecs.plot import plot
from vdm.comparisons.codecs.settings import CodecsSettings
from vdm.comparisons.codecs.table import classical_markdown, rates_markdown
from vdm.comparisons.work import Programs, Work, file_name, provenance, read_measured, write_measured
from vdm.config import Config, validate
from vdm.data import examples, selected, selection
from vdm.errors import InputError
from vdm.evaluation.bound import Evaluator
from vdm.evaluation.coding import chain_of, fingerprint
from vdm.files import replace_text, write_json
from vdm.guides import LABEL
from vdm.keys import Stream
from vdm.progress import progress_of
from vdm.runs.folder import lock
from vdm.runs.open import Run, open_run
from vdm.runs.records import weights_digest
from vdm.settings import check, from_dict

REMEDY = "lower comparison.batch_size"


def compare_codecs(
    config: Config,
    settings: CodecsSettings,
    workdir: Path,
    console: Console,
    programs: Programs,
    run: Path,
    checkpoint: str,
) -> str:
    """Compare codecs on a checkpoint of the run in `run`, measuring what is missing; return the Markdown tables.

    WORKDIR/cells/ holds a file for each T and each classical coder; codecs.json, codecs.md and codecs.png are made from
    them and updated after each T. Raises `InputError` for invalid input.
    """
    validate(config)
    check(settings, "comparison")
    trained = open_run(run, checkpoint, config=config)
    model = trained.model
    if others := sorted(set(model.condition) - {LABEL}):
        raise InputError(f"--run={run}: is conditioned on {', '.join(others)}; must be on labels only, or nothing")
    if model.num_steps is not None and settings.steps != (model.num_steps,):
        raise InputError(f"comparison.steps={settings.steps}: must be ({model.num_steps},), as in training")
    if not settings.steps:
        raise InputError("comparison.steps=(): must be one or more")
    if len(selected(len(trained.dataset.test), settings.max_images)) < 2:
        raise InputError("comparison.max_images: one test image has no standard error; must be 2 or more")
    with lock(workdir):
        return _Codecs(trained, settings, workdir, console).run()


class _Codecs:
    def __init__(self, trained: Run, settings: CodecsSettings, workdir: Path, console: Console):
        self.trained, self.settings, self.workdir, self.console = trained, settings, workdir, console
        self.indices = selected(len(trained.dataset.test), settings.max_images)
        self.batch = examples(trained.dataset.test, self.indices)
        self.weights = weights_digest(trained.variables)
        model, size = trained.model, min(trained.config.evaluation.batch_size, len(self.indices))
        self.evaluator = Evaluator(model, trained.mesh, size)

    def run(self) -> str:
        (self.workdir / "cells").mkdir(exist_ok=True)
        outcomes = [self._classical(name) for name in CODERS]
        steps, table = self.settings.steps, ""
        work = Work(sum(map(self._cost, steps)))
        several: list[Coded] = []
        for num_steps in steps:
            path, wanted = self.workdir / "cells" / f"T_{num_steps}.json", self._settings(num_steps)
            measured = read_measured(path, wanted, [each.name for each in fields(Coded)])
            work.advance(self._cost(num_steps), skip=measured is not None)
            if measured is None:
                measured = {"metrics": asdict(self._measure(num_steps))}
                write_measured(path, measured, wanted)
            found: Coded = from_dict(Coded, measured["metrics"], f"{path}: metrics.")
            several.append(found)
            self.console.print(
                f"T = {num_steps}: net rate {found.net:.4f}, bound {found.bound:.4f} bits/dim; {work}", style="bold"
            )
            table = self._write(several, outcomes)
        self.console.print(f"wrote codecs.json, codecs.md and codecs.png to {self.workdir}/", soft_wrap=True)
        return table

    def _cost(self, num_steps: int) -> int:
        """Return the network calls for one T: for decoding, repeated encoding, and the bound."""
        return len(self.indices) * num_steps * (1 + self.settings.repeats + self._draws(num_steps))

    def _draws(self, num_steps: int) -> int:
        """Return the number of exact sums over all T to draw."""
        return max(self.settings.draws // num_steps, 2)

    def _of_images(self) -> dict[str, Any]:
        info = self.trained.dataset.info.to_dict()
        return {"data": info, "images": selection.record(len(self.indices), info["num_test"])}

    def _settings(self, num_steps: int) -> dict[str, Any]:
        """Return everything that the numbers for one T depend on."""
        s = self.settings
        return self._of_images() | {
            "num_steps": num_steps,
            "batch_size": s.batch_size,
            "bins": Header().bins,
            "repeats": s.repeats,
            "draws": self._draws(num_steps),
            "seed": self.trained.config.seed,
            "weights": self.weights,
        }

    def _measure(self, num_steps: int) -> Coded:
        """Compute the bound of the images, and code them."""
        trained, model = self.trained, self.trained.model
        with progress_of(self.console, f"bound at T = {num_steps}") as progress:
            estimates = self.evaluator.estimates(
                trained.variables,
                trained.dataset.test,
                trained.key(Stream.EVALUATION),
                num_steps,
                rounds=self._draws(num_steps),
                max_images=self.settings.max_images,
                progress=progress,
                num_steps=num_steps,
            )
        labelled = LABEL in model.condition
        images = Images(
            self.batch["image"],
            self.batch[LABEL] if labelled else None,
            len(trained.dataset.info.classes or ()) if labelled else 0,
            bits_of(estimates.terms, model.num_dims),
            estimates.groups,
        )
        header = self._header(num_steps, images.num_classes)
        with memory.guarded("coding", REMEDY):
            chain = chain_of(model, trained.variables, num_steps, header.batch_size, header.bins)
            return coded(chain, images, self.settings.repeats, header)

    def _header(self, num_steps: int, classes: int) -> Header:
        """Return the header of a file as `vdm compress` writes it."""
        trained, model = self.trained, self.trained.model
        return Header(
            T=num_steps,
            batch_size=self.settings.batch_size,
            classes=classes,
            levels=model.levels,
            made_on=here(),
            model=f"sha256:{fingerprint(model, trained.variables)}",
            note=f"{trained.dataset.info.name}@test",
            run=trained.name,
            shape=tuple(model.shape),
            step=trained.step,
        )

    def _classical(self, name: str) -> Outcome:
        path, coder = self.workdir / "cells" / f"{file_name(name)}.json", CODERS[name]
        wanted = self._of_images() | {"coder": name, "missing": coder.missing(), "versions": classical.versions()}
        measured = read_measured(path, wanted, [each.name for each in fields(Outcome)])
        if measured is None:
            with progress_of(self.console, name):
                measured = {"metrics": asdict(classical.measured(name, coder, self.batch["image"]))}
            write_measured(path, measured, wanted)
        found: Outcome = from_dict(Outcome, measured["metrics"], f"{path}: metrics.")
        return found

    def _write(self, several: list[Coded], outcomes: list[Outcome]) -> str:
        best = min(several, key=lambda found: found.files[-1][1])
        table = f"{rates_markdown(several)}\n\n{classical_markdown(outcomes, best)}"
        record = (
            {
                "outcomes": [
                    asdict(found)
                    | {"above": found.above, "gross": {str(num): rate for num, rate in found.gross().items()}}
                    for found in several
                ],
                "classical": [asdict(outcome) for outcome in outcomes],
                "checkpoint_step": self.trained.step,
                "run": self.trained.name,
            }
            | self._of_images()
            | provenance(self.trained.config, self.settings, self.trained.dataset, self.trained.mesh)
        )
        write_json(self.workdir / "codecs.json", record)
        replace_text(self.workdir / "codecs.md", table + "\n")
        plot(self.workdir / "codecs.png", several, outcomes)
        return table
