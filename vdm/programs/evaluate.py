"""evaluate.py: bits/dim of a run's checkpoint on the test split."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from vdm import model as model_lib
from vdm import parallel
from vdm.config import Config, validate
from vdm.data import load
from vdm.evaluation.likelihood import Evaluation, Evaluator
from vdm.training.checkpoints import Checkpoints
from vdm.training.loop import abstract_state, resolve, write_evaluation
from vdm.training.rundir import check_same_data, check_same_model, read_config, read_record
from vdm.training.state import Stream, stream_key


def evaluate(config: Config, workdir: Path, checkpoint: str, console: Console) -> Evaluation:
    """Evaluates the moving average of a checkpoint on the test split; writes evaluation.json, prints a table."""
    validate(config)
    dataset = load(config.data)
    config = resolve(config, dataset)
    check_same_model(read_config(workdir), config, workdir)
    record = read_record(workdir)
    if config.data.name == record.get("data", {}).get("name"):
        check_same_data(record, dataset.info.to_dict(), workdir)
    settings = config.evaluation
    mesh = parallel.make_mesh()
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step, variables = checkpoints.restore_ema(abstract_state(config, mesh), checkpoint)
    evaluator = Evaluator(model_lib.from_config(config), mesh, settings.batch_size)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("evaluating")
        result = evaluator(
            variables,
            dataset.test,
            stream_key(config.seed, Stream.EVALUATION),
            settings.draws,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_evaluation(workdir, result, dataset, step)
    console.print(_table(result, f"{dataset.info.name}, test split, step {step}"))
    return result


def _table(result: Evaluation, title: str) -> Table:
    caption = f"{result.num_images} images, {result.num_draws} draws each, EMA, float32"
    table = Table(title=title, caption=caption, min_width=len(caption) + 4)
    table.add_column("term")
    table.add_column("bits/dim", justify="right")
    for name in ("reconstruction", "prior", "diffusion"):
        table.add_row(name, f"{getattr(result, name):.4f}")
    table.add_section()
    table.add_row("total", str(result).removesuffix(" bits/dim"), style="bold")
    return table
