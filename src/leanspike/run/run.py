"""A run: what a recipe asks for, in a folder, from start to finish, from wherever it was left.

The folder holds ``recipe.yaml``, ``data.json``, ``log.jsonl``, ``tensorboard/``,
``checkpoint.pt``, the models ``ann/``, ``start/`` (converted, before training) and ``snn/``,
``result.json`` and ``report.html``. Each appears whole or not at all; what is there is not computed
again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from rich.table import Table
from torch import Tensor, nn

from leanspike.backends import watch_backends
from leanspike.config import (
    CalibrateSection,
    EvaluateSection,
    Recipe,
    TrainedSection,
    TrainSection,
)
from leanspike.data import Loader, Split, describe, normalise
from leanspike.distributed import ALONE, Group, joined
from leanspike.errors import LeanspikeError
from leanspike.evaluation import (
    Result,
    evaluate,
    measure_times,
    provenance,
    readings,
    record_example,
)
from leanspike.evaluation.answers import outputs
from leanspike.evaluation.origin import computed_by
from leanspike.evaluation.times import BATCH, Times
from leanspike.files import write_text
from leanspike.memory import release_freed_memory
from leanspike.models.own import create_own, is_own
from leanspike.modes import eval_mode
from leanspike.report import write_report
from leanspike.run.build import (
    build_augment,
    build_network,
    build_neuron,
    build_norm,
    build_objective,
    check_teacher,
    choose_device,
    choose_dtype,
    is_taught,
    model_spec,
    open_data,
    shift_norms,
)
from leanspike.run.exits import measure_exits, with_exits
from leanspike.run.folder import (
    CALIBRATION,
    CHECKPOINT,
    LOG,
    REPORT,
    RESULT,
    Clock,
    check_free,
    check_removable,
    claim,
    clear,
    hold,
    read_backends,
    read_recipe,
    read_seconds,
)
from leanspike.run.own import (
    ask_own,
    check_answers,
    import_own,
    own_sections,
    takes_channels_last,
)
from leanspike.run.pictures import with_pictures
from leanspike.run.seen import check_seen, keep_seen
from leanspike.run.trained import untrained
from leanspike.saved import load, save
from leanspike.surgery import Calibration, SpikingNetwork, calibrate, spike
from leanspike.surgery.thresholds import calibrated
from leanspike.temporal import create_encoder, dropout_rate
from leanspike.train import (
    Checkpoints,
    Feature,
    Monitor,
    Objective,
    Pair,
    Stage,
    Teacher,
    create_optimizer,
    create_schedule,
    fit,
    read_log,
    renormalise,
)
from leanspike.train.optim import Schedule


@final
class Run:
    """One recipe in one folder.

    Args:
        recipe: what to do.
        folder: of the run; :meth:`begin` makes it, or finds that it holds this recipe.
        monitor: what shows the progress.
        trust: whether networks of the user's own, ``package.module:Class``, may be imported.

    Raises:
        LeanspikeError: where the recipe names such a network without ``trust``.
    """

    def __init__(self, recipe: Recipe, folder: Path, monitor: Monitor, trust: bool = False) -> None:
        self.recipe = recipe
        self.folder = folder
        self.monitor = monitor
        self.trust = trust
        self.group = joined()
        import_own(recipe, trust)
        self.device = choose_device(recipe.device)
        self.dtype = choose_dtype(recipe.precision, self.device)
        self.data = open_data(recipe)
        self.checkpoints = Checkpoints(folder / CHECKPOINT, recipe.checkpoint_minutes)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The rows of the log so far."""
        return read_log(self.folder / LOG)

    def train(self, fresh: bool = False, command: str | None = None) -> Result:
        """Everything the recipe asks for; takes up where an earlier attempt was stopped.

        With ``fresh`` the run that is there is removed first, once it is known that this one fits.
        ``command`` is what the user gave, for the result.
        """
        self.begin(fresh)
        self.train_ann()
        self.convert()
        self.train_snn()
        return self.evaluate(command)

    def begin(self, fresh: bool = False) -> None:
        """Make the folder this run's, or take up the run that it holds.

        From here on until the run's end no other process may begin in the folder.

        Raises:
            LeanspikeError: for a folder of another recipe or of other images, or one that another
                process trains in, or a recipe whose parts do not fit.
        """
        (check_removable if fresh else check_free)(self.folder, self.recipe)
        if not fresh:
            check_seen(self.folder, self.data)
        self.rehearse(fresh)
        for line in (describe(self.data), *self.data.notes):
            self.monitor.console.print(line, highlight=False, soft_wrap=True, markup=False)
        self.group.wait()  # all have seen the folder as it was
        if self.group.first:
            self._lock = hold(self.folder)
            if fresh:
                clear(self.folder)
            claim(self.folder, self.recipe)
            keep_seen(self.folder, self.data)
        self.group.wait()

    def rehearse(self, fresh: bool = False) -> None:
        """Build what the recipe asks for and run it once on a blank input, untrained.

        So that what does not fit is found before anything is trained, and nothing is written. What
        the folder holds already is taken as it is, unless the run is to be ``fresh``.

        Raises:
            LeanspikeError: for parts that do not fit together, or weights that are not there.
        """
        recipe = self.recipe
        names = () if fresh else ("ann", "start", "snn")
        done = {name for name in names if (self.folder / name).exists()}
        if "snn" in done:
            return
        for split in (self.data.train, self.data.val, self.data.test):
            split.prepare()
        build_augment(recipe.data.augment, self.data)
        ann = self.load("ann") if "ann" in done else self._build(recipe.model)
        check_answers(ann, recipe.model.name, self.data, self._blank())
        teacher = Teacher(ann)
        if recipe.snn or recipe.ann is not None:  # else nothing is trained
            check_teacher(recipe)
            if recipe.teacher is not None:
                teacher = self.teacher()
                ask_own(teacher.network, recipe.teacher.model.name, self._blank())
                teacher.logits(self._blank())
                if not is_taught(recipe.ann, *recipe.snn):
                    self.monitor.console.print("nobody is taught: no objective asks the teacher")
        if recipe.ann is not None and "ann" not in done:
            self._try(ann, recipe.ann, teacher, None)
            if recipe.ann.epochs:
                shift_norms(ann)  # as training does
        snn = self.load("start") if "start" in done else self._rehearse_conversion(ann)
        for section in recipe.snn:
            self._try(snn, section, teacher, section.timesteps)

    def _rehearse_conversion(self, ann: nn.Module) -> SpikingNetwork:
        """The network that `convert` will begin with, whose neurons can be calibrated if asked."""
        section = self.recipe.spike
        snn = self._spike(self._untrained() if section.start == "scratch" else ann)
        if section.calibrate is not None:
            calibrated(snn)  # or refuses by their path
        return snn

    def _try(
        self, network: nn.Module, section: TrainSection, teacher: Teacher, timesteps: int | None
    ) -> None:
        """One loss, of a blank input."""
        _schedule(section, epoch_steps=1)
        network.to(self.device)
        teacher.network.to(self.device)
        x = self._blank()
        objective = build_objective(section, network, lambda: teacher, x)
        with torch.no_grad(), eval_mode(network):
            with dropout_rate(network, section.dropout), objective.watch(network):
                y_TNK = outputs(network, x, timesteps)
            objective(y_TNK, torch.zeros(1, dtype=torch.long, device=self.device), x)

    def train_ann(self) -> None:
        """``ann/``: trained, or with published weights; nothing where the SNN needs none."""
        recipe = self.recipe
        if self.group.agreed((self.folder / "ann").exists()):
            return
        torch.manual_seed(recipe.seed)
        ann = self._build(recipe.model)
        if recipe.ann is not None:
            with Clock(self.folder, "train ann", self.dtype):
                self._fit(ann, recipe.ann, "ann", number=0, timesteps=None)
        if recipe.ann is not None or recipe.model.weights is not None:
            self._save(ann, "ann")

    def convert(self) -> Calibration | None:
        """``start/``: the network with its neurons, thresholds calibrated."""
        if self.group.agreed((self.folder / "start").exists()):
            return None
        section = self.recipe.spike
        torch.manual_seed(self.recipe.seed)
        if section.start == "scratch":
            ann = self._untrained()
        elif (self.folder / "ann").exists():
            ann = self._load("ann")
        else:
            ann = self._build(self.recipe.model)
        snn = self._spike(ann)
        table = None
        if section.calibrate is not None:
            with Clock(self.folder, "calibrate", torch.float32):
                table = self._calibrate(snn, section.calibrate)
            if self.group.first:
                write_text(self.folder / CALIBRATION, json.dumps(asdict(table), indent=1))
        self._save(snn, "start")
        return table

    def train_snn(self) -> None:
        """``snn/``: trained through each stage of the recipe in turn."""
        if self.group.agreed((self.folder / "snn").exists()):
            return
        snn = self.load("start")
        assert isinstance(snn, SpikingNetwork)
        saved = self.checkpoints.load()
        done = int(saved["stage"]) if saved is not None else 0
        if saved is not None and done > 0 and "position" not in saved:  # between two stages
            with self.checkpoints.fitting():
                snn.load_state_dict(saved["network"])
                self.history[:] = saved["history"]
        steps = [section.timesteps or self.recipe.spike.timesteps for section in self.recipe.snn]
        for number, (section, timesteps) in enumerate(zip(self.recipe.snn, steps, strict=True), 1):
            if number < done:
                continue
            before = steps[: number - 1].count(timesteps)
            name = f"snn T={timesteps}" + (f" ({before + 1})" if before else "")
            with Clock(self.folder, f"train {name}", self.dtype):
                self._fit(snn, section, name, number, timesteps)
            self.checkpoints.save(
                {"stage": number + 1, "network": snn.state_dict(), "history": self.history}
            )
        self._save(snn, "snn")

    def evaluate(
        self,
        command: str | None = None,
        early_exit: Sequence[str] = (),
        max_drop_points: float | None = None,
    ) -> Result:
        """``result.json`` and ``report.html``, on the whole test set, in float32.

        ``early_exit`` and ``max_drop_points`` take the place of the recipe's; ["none"] is to stay
        to the end.
        """
        release_freed_memory()
        recipe = self.recipe
        section = with_exits(recipe, early_exit, max_drop_points)
        with watch_backends() as ran:
            result = self._measure(section)
        origin = provenance(
            command=command,
            seed=recipe.seed,
            recipe=recipe.model_dump(mode="json"),
            seconds=read_seconds(self.folder),
            device=self.device,
            backends=read_backends(self.folder),
        )
        result = result.model_copy(update={"provenance": computed_by(origin, ran)})
        if self.group.first:
            write_text(self.folder / RESULT, result.model_dump_json(indent=1))
            write_report(result, self.history, self.folder / REPORT)
        return result

    def _measure(self, section: EvaluateSection) -> Result:
        """The whole test set with SNN and ANN, early exits, times, and images to show."""
        recipe, data = self.recipe, self.data
        why = untrained(recipe)
        if why is not None:
            self.monitor.console.print(f"nothing was trained ({why}): the weights are random")
        snn = self.load("snn")
        assert isinstance(snn, SpikingNetwork)
        ann = self.load("ann") if (self.folder / "ann").exists() else None
        start = self.load("start")
        assert isinstance(start, SpikingNetwork)
        self.monitor.console.print(f"evaluating on {len(data.test)} test images ...")
        with Clock(self.folder, "evaluate"):
            result = evaluate(
                snn,
                self._loader(data.test, section.batch_size, group=self.group),
                ann=ann,
                name=recipe.name,
                data=data.name,
                split="test",
                classes=data.classes,
                start=readings(start) if recipe.snn else None,
                readout=section.readout,
                group=self.group,
            )
        if not self.group.first:
            return result  # the rest is measured by the first process alone
        test = self._loader(data.test, section.batch_size)
        if section.early_exit:
            rules = ", ".join(section.early_exit)
            self.monitor.console.print(f"choosing when to leave by {rules} ...")
            held_out = self._loader(data.val, section.batch_size)
            with Clock(self.folder, "early exit"):
                exits = measure_exits(snn, section, held_out, test, result)
            result = result.model_copy(update={"early_exit": exits})
        pixels, label = data.test.batch(torch.tensor([0]))
        x = normalise(pixels, data.mean, data.std).to(self.device)
        example = record_example(snn, x, pixels[0], int(label))
        shown = with_pictures(result.mistakes, data.test)
        times = self._times(snn, ann)
        return result.model_copy(update={"example": example, "mistakes": shown, "times": times})

    def _times(self, snn: SpikingNetwork, ann: nn.Module | None) -> Times:
        """How long the SNN takes beside its ANN, or the same network as one if there is none."""
        if ann is None:
            ann = self._untrained().to(self.device).to(memory_format=self.memory_format)
        self.monitor.console.print("timing SNN and ANN on this machine ...")
        x, _ = next(self._loader(self.data.test, BATCH).epoch(0))
        with Clock(self.folder, "times"):
            return measure_times(snn, ann, x)

    # -- parts ---------------------------------------------------------------------------------

    def _untrained(self) -> nn.Module:
        """The recipe's network, without the weights that it names."""
        return self._build(self.recipe.model.model_copy(update={"weights": None}))

    def _build(self, section: TrainedSection) -> nn.Module:
        return build_network(section, self.data, self.trust)

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """channels_last, the fast one, unless a network of the user's own cannot take it."""
        for section in own_sections(self.recipe):
            network = create_own(section.name or "", section.options, self.trust)
            if not takes_channels_last(network.to(self.device), self._blank()):
                self.monitor.console.print(
                    f"model {section.name} takes no images in channels_last, the faster layout "
                    "(a view of them?): the run keeps them contiguous",
                    highlight=False,
                    soft_wrap=True,
                )
                return torch.contiguous_format
        return torch.channels_last

    def _spike(self, ann: nn.Module) -> SpikingNetwork:
        """The network with its neurons, as the recipe has them."""
        section = self.recipe.spike
        if isinstance(ann, SpikingNetwork):
            raise LeanspikeError(
                f"the network in {self.recipe.model.weights} spikes already; give the ANN it was "
                "made from, as runs/RECIPE/ann"
            )
        snn = spike(
            ann.cpu().eval(),
            example_input=self._blank().cpu(),
            encode=create_encoder(section.encode, section.encode_options),
            timesteps=section.timesteps,
            neuron=build_neuron(section.neuron),
            norm=build_norm(section),
        )
        snn.doubts.uncalibrated = False  # the recipe says whether it will be
        return snn.to(self.device)

    def _calibrate(self, snn: SpikingNetwork, section: CalibrateSection) -> Calibration:
        images = min(section.images, len(self.data.train))
        order = torch.randperm(len(self.data.train), generator=torch.Generator().manual_seed(0))
        pixels, _ = self.data.train.batch(order[:images])
        x = normalise(pixels, self.data.mean, self.data.std).to(self.device)
        return calibrate(
            snn,
            x,
            percentile=section.percentile,
            percentile_rule=section.percentile_rule,
            scale=section.scale,
            method=section.method,
            statistics=section.statistics,
            timesteps=section.timesteps,
            group=self.group,
        )

    def _fit(
        self,
        network: nn.Module,
        section: TrainSection,
        name: str,
        number: int,
        timesteps: int | None,
    ) -> None:
        release_freed_memory()
        network.to(device=self.device)
        network.to(memory_format=self.memory_format)
        train = self._loader(
            self.data.train, section.batch_size, True, self.group, section.accumulate
        )
        objective = self._objective(network, section)
        stage = Stage(
            name=name,
            number=number,
            epochs=section.epochs,
            timesteps=timesteps,
            train=train,
            val=self._loader(self.data.val, self.recipe.evaluate.batch_size, group=self.group),
            objective=objective,
            optimizer=create_optimizer(
                nn.ModuleList([network, objective]),
                section.optimizer,
                learning_rate=section.learning_rate,
                neuron_learning_rate=section.neuron_learning_rate,
                momentum=section.momentum,
                nesterov=section.nesterov,
                weight_decay=section.weight_decay,
                decay_norms=section.decay_norms,
            ),
            schedule=_schedule(section, len(train)),
            seed=self.recipe.seed,
            dtype=self.dtype,
            select=section.select,
            max_gradient_norm=section.max_gradient_norm,
            gradient=section.gradient,
            group=self.group,
            accumulate=section.accumulate,
            synchronise_norms=section.synchronise_norms,
        )
        with dropout_rate(network, section.dropout):
            fit(network, stage, self.history, self.checkpoints, self.monitor)

    def _objective(self, network: nn.Module, section: TrainSection) -> Objective:
        torch.manual_seed(self.recipe.seed)  # adapters of features begin at random, in each stage
        x = self._blank()
        objective = build_objective(section, network, self.teacher, x)
        for part in objective.modules():
            if isinstance(part, Feature):
                self.monitor.console.print(_pairs_table(part.pairs))
        return objective

    def teacher(self) -> Teacher:
        """The network that teaches, by the recipe or the run's own ANN."""
        section = self.recipe.teacher
        if section is None:
            return Teacher(self.load("ann"), self.dtype)
        try:
            network = self._build(section.model).to(self.device)
        except LeanspikeError as error:
            raise LeanspikeError(f"the recipe's teacher: {error}") from None
        if section.mean is not None or section.std is not None:
            mean, std = section.mean or self.data.mean, section.std or self.data.std
            renormalise(network, self.data.mean, self.data.std, own_mean=mean, own_std=std)
        return Teacher(network.to(memory_format=self.memory_format), self.dtype)

    def _loader(
        self,
        split: Split,
        batch_size: int,
        train: bool = False,
        group: Group = ALONE,
        micro_batches: int = 1,
    ) -> Loader:
        return Loader(
            split,
            batch_size=batch_size,
            mean=self.data.mean,
            std=self.data.std,
            seed=self.recipe.seed,
            train=train,
            augment=build_augment(self.recipe.data.augment, self.data) if train else None,
            memory_format=self.memory_format,
            device=self.device,
            group=group,
            micro_batches=micro_batches,
        )

    def _blank(self) -> Tensor:
        """An input of one sample, all zeros."""
        frames = () if self.data.frames is None else (self.data.frames,)
        return torch.zeros(*frames, 1, *self.data.shape, device=self.device)

    def _save(self, network: nn.Module, name: str) -> None:
        """Appears whole: written beside, then renamed."""
        if self.group.first:
            part = self.folder / f".{name}.part"
            shutil.rmtree(part, ignore_errors=True)
            save(network, part, model_spec(self.recipe.model, self.data))
            part.rename(self.folder / name)
        self.group.wait()

    def load(self, name: str) -> nn.Module:
        """One of the run's networks, "ann", "start" or "snn", on its device, in eval mode."""
        return self._load(name).to(self.device).to(memory_format=self.memory_format)

    def _load(self, name: str) -> nn.Module:
        own, model = None, self.recipe.model
        if is_own(model.name):
            own = create_own(model.name, model.options, self.trust)
        return load(self.folder / name, own)


def _schedule(section: TrainSection, epoch_steps: int) -> Schedule:
    """The learning rate's factor through a stage whose epochs have so many steps."""
    return create_schedule(
        section.schedule,
        section.epochs * epoch_steps,
        section.warmup,
        epoch_steps=epoch_steps,
        period_epochs=section.period_epochs,
        milestones=section.milestones,
    )


def _pairs_table(pairs: Sequence[Pair]) -> Table:
    """Which module of the student learns from which of the teacher."""
    table = Table(title="feature maps", title_justify="left", box=None)
    for column in ("student", "C, H, W", "teacher", "C, H, W"):
        table.add_column(column)
    for pair in pairs:
        ours, theirs = (", ".join(map(str, s)) for s in (pair.student_shape, pair.teacher_shape))
        table.add_row(pair.student, ours, pair.teacher, theirs)
    return table


def open_run(folder: Path, monitor: Monitor, trust: bool = False) -> Run:
    """The run in a folder, by the recipe it was made with.

    Raises:
        LeanspikeError: if there is none, or its images are others now.
    """
    run = Run(read_recipe(folder), folder, monitor, trust)
    check_seen(folder, run.data)
    return run
