"""The step that makes the ANN of a run spike and calibrates its thresholds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import final

import torch
from torch import nn

from leanspike.config import CalibrateSection
from leanspike.data import normalise
from leanspike.evaluation import MacCounter, Macs
from leanspike.run.steps.step import Context, Rehearsal
from leanspike.run.workspace import CALIBRATION
from leanspike.surgery import Calibration, SpikingNetwork, calibrate
from leanspike.surgery.thresholds import calibrated


@final
class Convert:
    """The step that makes ``start/``, the network with its neurons, calibrated."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def done(self) -> bool:
        """Return whether the SNN before its training is in the folder."""
        return self.context.workspace.has("start")

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Make the ANN spike, and check that its neurons can be calibrated, if they are to be."""
        if rehearsal.finds(self):
            rehearsal.snn = self.context.load("start")
            return
        assembly, ann = self.context.assembly, rehearsal.ann
        section = assembly.recipe.spike
        assert ann is not None
        snn = assembly.spiking(assembly.untrained() if section.start == "scratch" else ann)
        if section.calibrate is not None:
            calibrated(snn)  # refuses other neurons by their path
        rehearsal.snn = snn

    def do(self) -> Calibration | None:
        """Make the ANN spike and calibrate it; return the calibration, or None if there is none."""
        assembly, workspace = self.context.assembly, self.context.workspace
        section = assembly.recipe.spike
        torch.manual_seed(assembly.recipe.seed)
        snn = assembly.spiking(self._ann())
        table = None
        if section.calibrate is not None:
            with workspace.clock("calibrate", torch.float32), MacCounter() as counter:
                table = self._calibrate(snn, section.calibrate)
            workspace.keep_macs("calibrate", self._counted(counter))
            if self.context.group.first:
                workspace.write(CALIBRATION, json.dumps(asdict(table), indent=1))
        self.context.save(snn, "start")
        return table

    def _counted(self, counter: MacCounter) -> Macs | None:
        """Return what all processes have counted, or None where that is not all."""
        found = self.context.group.gathered((counter.products, bool(counter.unknown)))
        if any(unknown for _, unknown in found):
            return None
        return Macs.sum(Macs(forward=each.macs, padding=each.padding) for each, _ in found)

    def _ann(self) -> nn.Module:
        """Return the network that is to spike."""
        assembly = self.context.assembly
        if assembly.recipe.spike.start == "scratch":
            return assembly.begun(assembly.untrained())
        if self.context.workspace.has("ann"):
            return self.context.read("ann")
        return assembly.begun(assembly.ann())  # there are no weights, or they would be in ann/

    def _calibrate(self, snn: SpikingNetwork, section: CalibrateSection) -> Calibration:
        data = self.context.assembly.data
        images = min(section.images, len(data.train))
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        pixels, _ = data.train.batch(order[:images])
        x = normalise(pixels, data.mean, data.std).to(self.context.assembly.device)
        return calibrate(
            snn,
            x,
            percentile=section.percentile,
            percentile_rule=section.percentile_rule,
            scale=section.scale,
            method=section.method,
            statistics=section.statistics,
            timesteps=section.timesteps,
            group=self.context.group,
        )
