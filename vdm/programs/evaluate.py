"""evaluate.py: bits/dim of a run's checkpoint on the test split."""

from pathlib import Path

import jax
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, validate
from vdm.data import load
from vdm.evaluation.likelihood import Evaluation, Evaluator
from vdm.training.checkpoints import Checkpoints
from vdm.training.loop import EVALUATION_STREAM, abstract_state, resolve, write_evaluation


def evaluate(config: Config, workdir: Path, checkpoint: str, console: Console) -> Evaluation:
    """Evaluates the moving average of a checkpoint on the test split; writes evaluation.json, prints a table."""
    validate(config)
    dataset = load(config.data)
    config = resolve(config, dataset)
    settings = config.evaluation
    mesh = parallel.make_mesh()
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step, variables = checkpoints.restore_ema(abstract_state(config, mesh), checkpoint)
    evaluator = Evaluator(model_lib.from_config(config), mesh, settings.batch_size, settings.draws)
    key = jax.random.fold_in(jax.random.key(config.seed), EVALUATION_STREAM)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("evaluating")
        result = evaluator(
            variables,
            dataset.test,
            key,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_evaluation(workdir, result, dataset, step)
    console.print(_table(result, f"{dataset.info.name}, test split, step {step}"))
    return result


def _table(result: Evaluation, title: str) -> Table:
    table = Table(title=title, caption=f"{result.num_images} images, {result.num_draws} draws each, EMA, float32")
    table.add_column("term")
    table.add_column("bits/dim", justify="right")
    for name in ("reconstruction", "prior", "diffusion"):
        table.add_row(name, f"{getattr(result, name):.4f}")
    table.add_section()
    table.add_row("total", f"{result.total:.4f} ± {result.stderr:.4f}", style="bold")
    return table
