"""The command line. Everything for people goes to stderr; the last line of stdout is JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from leanspike.compile_command import compile_run
from leanspike.console import RunArgument, TrustOption, people, trusted
from leanspike.environment import started_by_torchrun
from leanspike.errors import LeanspikeError
from leanspike.export_commands import commands as export_commands
from leanspike.memory import keep_freed_memory
from leanspike.study_commands import commands as study_commands

app = typer.Typer(
    name="leanspike",
    help="Make an ordinary PyTorch network spike, train it to a handful of timesteps, tell what "
    "it costs. The ordinary one is called the ANN (artificial neural network), the spiking one the "
    "SNN.\n\nStart with:  leanspike train digits",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compile")(compile_run)
app.add_typer(export_commands)
app.add_typer(study_commands)
INTERRUPTED = 130
LIMIT = 1000
"""Test images for --robustness, unless told."""


class ExitBy(StrEnum):
    """The rules of early exit, and none of them."""

    gamma = "gamma"
    margin = "margin"
    entropy = "entropy"
    none = "none"


AnnOption = Annotated[
    Path | None,
    typer.Option(help="Begin with a trained ANN saved by leanspike, e.g. runs/digits/ann."),
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

    A run that was stopped, or killed, goes on where it was when the same command is given again,
    and ends with the same weights.

    A network of your own is **model.name=package.module:Class**; its constructor gets
    model.options and nothing else. Importing it runs its code, so it needs **--trust**, and so do
    convert and evaluate of such a run. Images of your own lie in ROOT/train/CLASS and
    ROOT/test/CLASS, or in ROOT/CLASS: **data.name=image_folder data.root=ROOT**.

    Examples:

        leanspike train digits

        leanspike train cifar10 data.root=~/data seed=1 --out runs/first

        leanspike train digits --ann runs/digits/ann 'spike.neuron.learn=[]' --out runs/weights-only

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

    settings = load_recipe(recipe, _start_from(ann, recipe, overrides or []))
    if not untrained:
        check_trained(settings, "train")
    folder = out or Path("runs") / settings.name
    group = joined()
    fresh = fresh and not attempt()  # what an earlier attempt has come to stays
    if not fresh:
        check_free(folder, settings)
        if (folder / RESULT).is_file():
            people.print(f"{folder} is complete; --fresh starts it over")
            _answer(load_result(folder / RESULT), folder / REPORT)
            return
    monitor = Monitor(people, folder if group.first else None)
    try:
        run = Run(settings, folder, monitor, trusted(trust))
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

    Shows what the calibration found in each layer, then evaluates.

    Examples:

        leanspike convert digits --ann runs/digits/ann

        leanspike convert published_resnet20 model.weights=resnet20.th data.root=~/data

        leanspike convert digits --ann mine model.name=mynet:Net --trust
    """
    from leanspike.recipes import load_recipe
    from leanspike.run import REPORT, Run, check_trained
    from leanspike.train import Monitor

    settings = load_recipe(recipe, [*_start_from(ann, recipe, overrides or []), "snn=[]"])
    if not untrained:
        check_trained(settings, "convert")
    folder = out or Path("runs") / f"{settings.name}-converted"
    monitor = Monitor(people, folder)
    try:
        run = Run(settings, folder, monitor, trusted(trust))
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
            help="Measure leaving early by this rule, or by none; may be given several times.",
            show_default="the recipe's",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Percentage points of accuracy that leaving early may lose on held-out images.",
            show_default="the recipe's, 0.2",
        ),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Measure on corrupted and attacked images instead."),
    ] = False,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Another run for --robustness; may be given several times."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Test images for --robustness, drawn alike from all classes.",
            show_default=str(LIMIT),
        ),
    ] = None,
    common: Annotated[
        bool,
        typer.Option(
            "--common", help="For --robustness: the nineteen corruptions of ImageNet-C, too."
        ),
    ] = False,
    trust: TrustOption = False,
) -> None:
    """Evaluate a run's SNN on the whole test set: accuracy by step, spikes, energy, times.

    Writes result.json and report.html anew. How long SNN and ANN take is measured on this
    machine, in turn, for one image and for 64 at once: leave it alone for these seconds.

    With early exit every image leaves as soon as its answer is good enough: **margin** and
    **entropy** ask how sure the answer is, and stop the others when more steps help no more;
    **gamma** stops all images at the step from which the network's BNTT scales stay small.
    Thresholds are chosen on held-out training images; accuracy,
    mean timesteps, energy and time are measured on the test set.

    With **--robustness** it writes robustness.json and robustness.html: ten corruptions at five
    severities, FGSM and PGD, for the teacher or ANN, the SNN, and the SNNs of other runs.
    CIFAR-10-C takes part if it lies beside the data set; **--common** adds the corruptions of
    ImageNet-C (pip install 'leanspike[corruptions]'; colour images of 32 pixels or more). Each of
    the three has a mean corruption error of its own.

    Examples:

        leanspike evaluate runs/digits

        leanspike evaluate runs/digits --early-exit margin --max-drop 0.2

        leanspike evaluate runs/taught --robustness --beside runs/plain

        leanspike evaluate runs/first --robustness --common
    """
    from leanspike.run import REPORT, open_run
    from leanspike.train import Monitor

    if robustness and (early_exit or max_drop is not None):
        raise LeanspikeError("--robustness measures no early exit; ask for one of the two")
    if not robustness and (beside or common or limit):
        raise LeanspikeError("--beside, --limit and --common are for --robustness; add it")
    if robustness:
        _evaluate_robustness(run, beside or [], limit or LIMIT, common, trusted(trust))
        return
    rules = [rule.value for rule in early_exit or []]
    opened = open_run(run, Monitor(people), trusted(trust))
    _answer(opened.evaluate("leanspike evaluate", rules, max_drop), run / REPORT)


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

    NeuroBench's metrics are run as they are: accuracy, activation sparsity, synaptic operations,
    membrane updates, footprint and connection sparsity, on the test images. Where its figures and
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

    It reads what was measured and builds no network, so it needs no --trust.

    Two runs or more go side by side into one page: accuracy by step, training, energy, thresholds
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
    """List the recipes that come with leanspike, or print one, every key written out.

    With **--keys** it lists all keys that a recipe may have, with types, defaults and meaning.

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
            raise LeanspikeError(f"--keys is of all recipes alike; leave {show} out")
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
        typer.Option(help="Who takes part, parted by commas.", show_default="all installed"),
    ] = None,
    parts: Annotated[
        str, typer.Option(help="What is raced, parted by commas.")
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

    One network (VGG9), the same weights and the same neuron for all: training and inference at
    T = 5 in float32 and bfloat16, time and memory over T = 1 to 32, and where the time goes.
    Everybody has a process of its own and they take turns; leave the machine alone meanwhile (a
    quarter of an hour on 2 cores). The others come with: pip install 'leanspike[peers]'

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
    with _progress() as progress:
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


def _evaluate_robustness(
    run: Path, beside: Sequence[Path], limit: int, common: bool, trust: bool
) -> None:
    from leanspike.report.robustness import render_robustness
    from leanspike.run import ROBUSTNESS_PAGE, compare_robustness, open_run
    from leanspike.train import Monitor

    monitor = Monitor(people)
    first, *others = (open_run(folder, monitor, trust) for folder in (run, *beside))
    with _progress() as progress:
        task = progress.add_task("robustness", total=None)
        found = compare_robustness(
            first,
            others,
            limit,
            lambda done, total: progress.update(task, completed=done, total=total),
            common,
        )
    people.print(render_robustness(found))
    page = run / ROBUSTNESS_PAGE
    people.print(f"\npage: {page}", highlight=False, soft_wrap=True)
    print(json.dumps({**found.summary, "page": str(page)}))


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


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("left")
    hidden = not people.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=people, transient=True, disable=hidden)


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
    """Entry point: a user's mistake is one line on stderr and exit status 1."""
    keep_freed_memory()
    if started_by_torchrun():
        from leanspike.distributed.worker import work_as_one

        work_as_one(lambda: app(arguments), _say_mistake)
    try:
        app(arguments)
    except LeanspikeError as error:
        _say_mistake(str(error))
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's answer to Ctrl-C
            people.print("\nstopped; a run goes on with the same command, without --fresh")
        raise


def _say_mistake(message: str) -> None:
    people.print(f"[bold red]error:[/] {_plain(message)}", highlight=False, soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
