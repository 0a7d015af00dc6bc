"""The command line. Everything for people goes to stderr; the last line of stdout is JSON."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from leanspike.compile_command import compile_run
from leanspike.console import RunArgument, TrustOption, people, progress_bar, trusted
from leanspike.environment import started_by_torchrun
from leanspike.errors import LeanspikeError, memory_ended, one_line
from leanspike.export_commands import commands as export_commands
from leanspike.memory import keep_freed_memory
from leanspike.robustness_command import robustness as measure_robustness
from leanspike.study_commands import commands as study_commands

app = typer.Typer(
    name="leanspike",
    help="Turn an ordinary PyTorch network into a spiking one, train it to answer in a handful of "
    "timesteps, and count what it costs. The ordinary network is called the ANN (artificial neural "
    "network), the spiking one the SNN.\n\nStart with:  leanspike train digits",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compile")(compile_run)
app.command("robustness")(measure_robustness)
app.add_typer(export_commands)
app.add_typer(study_commands)
INTERRUPTED, TERMINATED = 130, 143
GO_ON = "\nstopped; the same command, without --fresh, resumes the run"


class ExitBy(StrEnum):
    """The rules of early exit, and none of them."""

    gamma = "gamma"
    margin = "margin"
    entropy = "entropy"
    none = "none"


AnnOption = Annotated[
    Path | None,
    typer.Option(
        help="Begin with a trained ANN saved by leanspike, e.g. runs/digits/ann; or take over that "
        "of a run with the same data, model and training, e.g. runs/digits."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run.", show_default="runs/NAME")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as in seed=1 snn.0.epochs=2."),
]
UntrainedOption = Annotated[
    bool, typer.Option("--untrained", help="Measure a network in which nothing is trained.")
]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file of your own.")],
    overrides: Overrides = None,
    out: OutOption = None,
    ann: AnnOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the run in that folder instead of resuming it.")
    ] = False,
    untrained: UntrainedOption = False,
    trust: TrustOption = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Train in so many processes on this machine."),
    ] = None,
    restarts: Annotated[
        int, typer.Option(min=0, help="With --processes: begin again so often if one is killed.")
    ] = 0,
) -> None:
    """Train an ANN, make it spike, train the SNN, evaluate it, write the report.

    The same command resumes a run that was stopped or killed. The run ends with the same weights.

    A network of your own is **model.name=package.module:Class**. Its constructor gets
    model.options and nothing else. Importing it runs its code, so it needs **--trust**. Convert
    and evaluate need **--trust** for such a run, too.

    Images of your own are **data.name=image_folder data.root=ROOT**. They lie in ROOT/train/CLASS
    and ROOT/test/CLASS, or in ROOT/CLASS.

    Examples:

        leanspike train digits

        leanspike train cifar10 data.root=~/data seed=1 --out runs/first

        leanspike train digits --ann runs/digits/ann 'spike.neuron.learn=[]' --out runs/weights-only

        leanspike train digits --ann runs/digits spike.timesteps=3 --out runs/three-steps

        leanspike train digits model.name=mynet:Net 'model.options={width: 16}' --trust

        leanspike train digits data.name=image_folder data.root=~/photos --out runs/photos

        leanspike train digits --processes 2 --restarts 3
    """
    if processes is not None or restarts:
        given = {"--fresh": fresh, "--untrained": untrained, "--trust": trust}
        paths = {"--out": out, "--ann": ann}
        same = ["train", recipe, *(overrides or []), *(flag for flag, on in given.items() if on)]
        same += [word for flag, path in paths.items() if path for word in (flag, str(path))]
        _train_together(same, processes or 1, restarts)
        return
    from leanspike.distributed import joined
    from leanspike.distributed.worker import attempt
    from leanspike.evaluation import load_result
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, RESULT, Run, check_free, check_trained
    from leanspike.train import Monitor

    ann_of, ann = _run_of(ann)
    settings = load_recipe(recipe, _start_from(ann, recipe, overrides or []))
    if not untrained:
        check_trained(settings, "train")
    folder = out or Path("runs") / settings.name
    group = joined()
    fresh = fresh and not attempt()  # what an earlier attempt has come to stays
    if not fresh:
        check_free(folder, settings)
        if (folder / RESULT).is_file():
            people.print(f"{folder} is complete; --fresh trains it anew")
            _answer(load_result(folder / RESULT), folder / REPORT)
            return
    monitor = Monitor(people, folder if group.first else None)
    try:
        run = Run(settings, folder, monitor, trusted(trust), ann_of)
        result = run.train(fresh, "leanspike train")
    finally:
        monitor.close()
    if group.first:
        _answer(result, folder / REPORT)


@app.command()
def convert(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file of your own.")],
    overrides: Overrides = None,
    out: OutOption = None,
    ann: AnnOption = None,
    untrained: UntrainedOption = False,
    trust: TrustOption = False,
) -> None:
    """Convert only: the recipe's ANN becomes an SNN with calibrated thresholds, untrained.

    The command shows what the calibration found in each layer. Then it evaluates the SNN.

    Examples:

        leanspike convert digits --ann runs/digits/ann

        leanspike convert published_resnet20 model.weights=resnet20.th data.root=~/data

        leanspike convert digits --ann mine model.name=mynet:Net --trust
    """
    from leanspike.distributed import joined
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, Run, check_trained
    from leanspike.train import Monitor

    ann_of, ann = _run_of(ann)
    settings = load_recipe(recipe, [*_start_from(ann, recipe, overrides or []), "snn=[]"])
    if not untrained:
        check_trained(settings, "convert")
    folder = out or Path("runs") / f"{settings.name}-converted"
    monitor = Monitor(people, folder if joined().first else None)
    try:
        run = Run(settings, folder, monitor, trusted(trust), ann_of)
        run.begin()
        run.train_ann()
        table = run.convert()
        if table is not None:
            people.print(_calibration_table(table))
        run.train_snn()
        result = run.evaluate("leanspike convert")
    finally:
        monitor.close()
    _answer(result, folder / REPORT)


@app.command()
def evaluate(
    run: RunArgument,
    early_exit: Annotated[
        list[ExitBy] | None,
        typer.Option(
            help="Measure early exit by this rule, or by none; may be given several times.",
            show_default="the recipe's",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Percentage points of accuracy that early exit may lose on held-out images.",
            show_default="the recipe's, 0.2",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Measure this, too, as calibration_error; may be given several times.",
            show_default="the recipe's",
        ),
    ] = None,
    robustness: Annotated[bool, typer.Option("--robustness", hidden=True)] = False,
    beside: Annotated[list[Path] | None, typer.Option(hidden=True)] = None,
    limit: Annotated[int | None, typer.Option(hidden=True)] = None,
    common: Annotated[bool, typer.Option("--common", hidden=True)] = False,
    trust: TrustOption = False,
) -> None:
    """Evaluate a run's SNN on the whole test set: accuracy by step, spikes, energy, times.

    The command writes result.json and report.html anew. SNN and ANN take turns on this machine
    to show how long they take, for one image and for 64 at once. Leave it alone for these seconds.

    With early exit an image leaves as soon as its answer is good enough. **margin** and
    **entropy** ask how sure the answer is. The others leave when more steps help no more.
    **gamma** lets all images leave at the step from which the network's BNTT scales stay small.
    Each rule's threshold is chosen on held-out training images. Accuracy, mean timesteps, energy
    and time are measured on the test set.

    **--metric calibration_error** asks whether the network is as sure as it is right, after each
    step, with a figure on the page. Corrupted images are `leanspike robustness`.

    Examples:

        leanspike evaluate runs/digits

        leanspike evaluate runs/digits --early-exit margin --max-drop 0.2

        leanspike evaluate runs/digits --metric calibration_error
    """
    from leanspike.run import REPORT, open_run
    from leanspike.train import Monitor

    if robustness or beside or limit or common:
        raise LeanspikeError(_as_robustness(run, beside or [], limit, common))
    rules = [rule.value for rule in early_exit or []]
    opened = open_run(run, Monitor(people), trusted(trust))
    found = opened.evaluate("leanspike evaluate", rules, max_drop, metric or [])
    _answer(found, run / REPORT)


@app.command()
def neurobench(
    run: RunArgument,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="The first test images alone.", show_default="all of them"),
    ] = None,
    trust: TrustOption = False,
) -> None:
    """Measure a run's SNN with NeuroBench, beside leanspike's own counts.

    NeuroBench's own metrics run on the test images: accuracy, activation sparsity, synaptic
    operations, membrane updates, footprint and connection sparsity. Where its figures and
    leanspike's differ, the table says why. It needs: pip install 'leanspike[neurobench]'

    Examples:

        leanspike neurobench runs/digits

        leanspike neurobench runs/digits --limit 1000
    """
    from leanspike.evaluation import neurobench as measure
    from leanspike.execute import SpikingNetwork
    from leanspike.report.neurobench import render_neurobench
    from leanspike.run import labelled_tests, open_run
    from leanspike.train import Monitor

    opened = open_run(run, Monitor(people), trusted(trust))
    snn = opened.load("snn")
    assert isinstance(snn, SpikingNetwork)
    found = measure(snn, labelled_tests(opened, limit))
    people.print(render_neurobench(found))
    print(json.dumps(found.summary))


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs; studies, and files of studies."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page.",
            show_default="RUN/report.html, or comparison.html of several runs",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace --out even if it is no such page.")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Write the page of one run's robustness instead.")
    ] = False,
) -> None:
    """Write a run's report.html again from its result.json and log, or compare several runs.

    The command reads what was measured and builds no network, so it needs no --trust.

    One page shows two runs or more side by side: accuracy by step, training, energy, thresholds
    and leaks. A study stands for all its runs. The page of one of them is written into the current
    folder, unless **--out** says where.

    Examples:

        leanspike report runs/digits

        leanspike report runs/digits runs/short --out digits.html

        leanspike report results/norms/bntt-0.json --out bntt.html
    """
    from leanspike.studies import load_finished, write_report_of, write_robustness_of

    loaded = [found for run in runs for found in load_finished(run)]
    if robustness:
        if len(loaded) != 1:
            raise LeanspikeError("--robustness is of one run; name one")
        page = write_robustness_of(loaded[0], out, fresh)
        people.print(f"page: {page}", highlight=False, soft_wrap=True)
        print(json.dumps({"page": str(page)}))
    elif len(loaded) == 1:
        _answer(loaded[0].result, write_report_of(loaded[0], out, fresh))
    else:
        _compare(loaded, out or Path("comparison.html"), fresh)


@app.command()
def recipes(
    show: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="Print this recipe in full.")
    ] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Say what each key of a recipe takes and means.")
    ] = False,
) -> None:
    """List the recipes that come with leanspike, or print one with every key written out.

    With **--keys** the command lists all keys that a recipe may have: type, default and meaning.

    Examples:

        leanspike recipes

        leanspike recipes digits > mine.yaml

        leanspike recipes --keys 2>&1 | less
    """
    from leanspike.recipes import dump, load_recipe
    from leanspike.recipes import recipes as all_recipes
    from leanspike.recipes.keys import as_json, render_keys

    if keys:
        if show is not None:
            raise LeanspikeError(f"--keys lists the keys of every recipe; leave {show} out")
        people.print(render_keys())
        print(as_json())
        return
    if show is not None:
        sys.stdout.write(dump(load_recipe(show)))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("recipe", style="bold")
    table.add_column("what it does")
    for name, description in all_recipes().items():
        table.add_row(name, description)
    people.print(table)
    print(json.dumps(sorted(all_recipes())))


@app.command()
def bench(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for race.json, race.md and race.svg.")
    ] = Path("runs/bench"),
    rounds: Annotated[
        int, typer.Option(help="Rounds that are timed, after three that are not.")
    ] = 7,
    contenders: Annotated[
        str | None,
        typer.Option(help="Who takes part, separated by commas.", show_default="all installed"),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="What is raced, separated by commas.")
    ] = "race,curve,profile",
    width: Annotated[float, typer.Option(help="Width of the network; 1 is VGG9's.")] = 1.0,
    run: Annotated[
        Path | None, typer.Option("--run", help="A run whose networks part engine races.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the race in that folder.")
    ] = False,
) -> None:
    """Race leanspike against the ANN, other SNN libraries and a plain time loop, on this CPU.

    All have one network (VGG9), the same weights and the same neuron. Measured are training and
    inference at T = 5 in float32 and bfloat16, time and memory over T = 1 to 32, and where the
    time goes. Each contender has a process of its own, and they take turns. Leave the machine
    alone meanwhile, a quarter of an hour on 2 cores. The others come with:
    pip install 'leanspike[peers]'

    Part engine is about a run of yours: its ANN in float32 and int8, its SNN, and the engine that
    `leanspike compile` makes of it, answering 1, 64 and 256 test images.

    Examples:

        leanspike bench

        leanspike bench --parts engine --run runs/cifar10_t5 --out runs/engine

        leanspike bench --parts race --contenders ann,leanspike,loop --rounds 3 --out runs/short
    """
    from leanspike.bench import CONTENDERS, RIVALS, Plan, figure, markdown, render_race
    from leanspike.files import write_text

    if (out / "race.json").exists() and not fresh:
        raise LeanspikeError(f"{out} holds a race; give --fresh to replace it, or another --out")
    names = contenders.split(",") if contenders else list(CONTENDERS)
    plan = Plan(tuple(names), rounds, tuple(parts.split(",")), width, run)
    versions = {name: row.version for rows in (CONTENDERS, RIVALS) for name, row in rows.items()}
    missing = [name for name in plan.contenders if versions[name] is None]
    if missing:
        people.print(f"not installed: {', '.join(missing)}; pip install 'leanspike[peers]'")
        plan = replace(plan, contenders=tuple(n for n in plan.contenders if n not in missing))
    with progress_bar() as progress:
        task = progress.add_task("", total=len(plan))
        race = plan.run(
            "leanspike bench", lambda what: progress.update(task, advance=1, description=what)
        )
    write_text(out / "race.json", race.model_dump_json(indent=1))
    write_text(out / "race.svg", figure(race))
    write_text(out / "race.md", markdown(race))
    people.print(render_race(race))
    people.print(f"page: {out / 'race.md'}", highlight=False, soft_wrap=True)
    print(json.dumps({"page": str(out / "race.md"), "figure": str(out / "race.svg")}))


def _as_robustness(run: Path, beside: Sequence[Path], limit: int | None, common: bool) -> str:
    """That robustness is a command of its own, and which."""
    words = ["leanspike", "robustness", str(run)]
    words += [word for other in beside for word in ("--beside", str(other))]
    words += [] if limit is None else ["--limit", str(limit)]
    words += ["--common"] if common else []
    return f"robustness is a command of its own: {shlex.join(words)}"


def _run_of(ann: Path | None) -> tuple[Path | None, Path | None]:
    """What --ann names: a run whose ANN is taken over, or else weights to begin with."""
    is_run = ann is not None and (ann / "recipe.yaml").is_file()
    return (ann, None) if is_run else (None, ann)


def _train_together(command: Sequence[str], processes: int, restarts: int) -> None:
    """The same command in several processes, which end this one with their status."""
    from leanspike.distributed.launch import launch

    if started_by_torchrun():
        raise LeanspikeError(
            "this process was started by torchrun, which says how many there are; leave "
            "--processes and --restarts out (torchrun has --nproc-per-node and --max-restarts)"
        )
    say = partial(people.print, highlight=False, soft_wrap=True, markup=False)
    status = launch(command, processes, restarts, say)
    if status:
        sys.exit(status)


def _start_from(ann: Path | None, recipe: str, overrides: list[str]) -> list[str]:
    """What changes a recipe: with --ann which network, whose weights, and that they stay."""
    if ann is None:
        return overrides
    named = any(override.startswith("model.name=") for override in overrides)
    says = (ann / "spec.json").is_file() and not named and not _names_it(recipe, overrides, ann)
    saved = ["model.name=null", "model.options={}"] if says else []
    return [*saved, *overrides, f"model.weights={json.dumps(str(ann))}", "ann=null"]


def _names_it(recipe: str, overrides: list[str], ann: Path) -> bool:
    """Whether the recipe itself names the network of the user's own that was saved there."""
    from leanspike.models.own import is_own
    from leanspike.recipes import load_recipe
    from leanspike.saved import read_model

    saved = read_model(ann)
    own = saved is None or is_own(saved.name)
    return own and is_own(load_recipe(recipe, overrides).model.name)


def _compare(loaded: Sequence[Any], out: Path, fresh: bool) -> None:
    """One page, one table and one line for programs, of several finished runs."""
    from leanspike.report.compare import compare, differences, render_comparison, write_comparison

    compared = compare([(found.place, found.result, found.history) for found in loaded])
    page = write_comparison(compared, out, fresh)
    people.print(render_comparison(compared))
    people.print(f"\ncomparison: {page}", highlight=False, soft_wrap=True)
    rows = [run.summary for run in compared]
    print(json.dumps({"comparison": str(page), "runs": rows, "notes": differences(compared)}))


def _answer(result: Any, page: Path) -> None:
    """The tables for people, the report's path, and the one line for programs."""
    from leanspike.report import render_tables

    people.print(render_tables(result))
    people.print(f"\nreport: {page}", highlight=False, soft_wrap=True)
    print(json.dumps({**result.summary, "report": str(page)}))


def _calibration_table(calibration: Any) -> Table:
    table = Table(title=f"thresholds (scale {calibration.scale:g})", title_justify="left", box=None)
    for column in ("neurons at", "number", "percentile", "before", "threshold"):
        table.add_column(column, justify="left" if column == "neurons at" else "right")
    for row in calibration.layers:
        table.add_row(
            row.path,
            f"{row.neurons:,}",
            f"{row.percentile_value:.4g}",
            f"{row.threshold_before:.4g}",
            f"{row.threshold:.4g}",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: a user's mistake is one line on stderr and exit status 1.

    SIGTERM and Ctrl-C end it with 143 and 130, and a line that says how to go on.
    """
    keep_freed_memory()
    if started_by_torchrun():
        from leanspike.distributed.worker import work_as_one

        work_as_one(lambda: _work(arguments), _say)
    try:
        with _terminable():
            _work(arguments)
    except LeanspikeError as error:
        _say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        people.print(GO_ON)
        sys.exit(INTERRUPTED)
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):  # the first is typer's answer to Ctrl-C
            people.print(GO_ON)
        raise


def _work(arguments: Sequence[str] | None) -> None:
    """Do what the command line asks for; that memory ended is a mistake, too."""
    try:
        app(arguments)
    except (MemoryError, RuntimeError) as error:
        if not memory_ended(error):
            raise
        raise LeanspikeError(
            f"memory ended ({one_line(error) or type(error).__name__}); lower batch_size, "
            "timesteps or the model's width, or train with gradient=rate, and give another --out"
        ) from error


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is an exit as others are, so that what is open is closed."""

    def stop(*_: object) -> None:
        sys.exit(TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(error: str) -> None:
    people.print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
