"""NeuroBench's own metrics of a spiking network, and leanspike's counts beside them.

NeuroBench (Yik et al. 2023, arXiv 2304.04640; package `neurobench` 2.3) hangs hooks on modules. It
knows spikes by their values. The model here fills the hooks from what the plan declares. Each layer
sees the input of a step, with each spike as 1 whatever its height. Neurons hand out their
membranes. NeuroBench's metrics are run as they are.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, fx, nn

from leanspike.batches import Source
from leanspike.errors import LeanspikeError
from leanspike.evaluation.answers import batches_for
from leanspike.evaluation.comparison import Comparison, compare
from leanspike.evaluation.measure import evaluate
from leanspike.execute import SpikingNetwork, State
from leanspike.graph.costs import signal_nodes
from leanspike.modes import eval_mode
from leanspike.neuron import Neuron
from leanspike.optional import import_optional
from leanspike.synapse import plain

EXTRA = "neurobench"
STATIC = ("Footprint", "ConnectionSparsity")
WORKLOAD = (
    *("ClassificationAccuracy", "ActivationSparsity"),
    *("SynapticOperations", "MembraneUpdates"),
)


def neurobench(snn: SpikingNetwork, batches: Source) -> Comparison:
    """Return NeuroBench's figures for a network, beside leanspike's own figures of the same.

    Args:
        snn: in eval mode meanwhile, and put back afterwards.
        batches: inputs, each with the number of its class, as for `leanspike.evaluate`. They are
            read twice.

    Raises:
        LeanspikeError: without `pip install 'leanspike[neurobench]'`, for data that can be gone
            through only once, or where NeuroBench fails.

    >>> import leanspike as ls
    >>> ls.neurobench(nn.Linear(1, 1), [])
    Traceback (most recent call last):
    leanspike.errors.LeanspikeError: snn is a Linear; give what ls.spike returned
    """
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(f"snn is a {type(snn).__name__}; give what ls.spike returned")
    model = neurobench_model(snn)
    sizes: list[int] = []
    pairs = batches_for(snn, batches, "labels")
    if pairs.once:
        raise LeanspikeError(
            f"the {type(batches).__name__} can be gone through once, and NeuroBench comes second; "
            "give list(batches), or a DataLoader"
        )
    result = evaluate(snn, batches, task="multiclass", progress=sizes.append)
    found = _run(model, _Loader(pairs, sizes, snn.plan.encoder.batch_axis))
    return compare(snn, result, found)


def neurobench_model(snn: SpikingNetwork) -> Any:
    """Return the network as a ``NeuroBenchModel``, for a ``neurobench.benchmarks.Benchmark``.

    The model takes a batch ``[N, ...]``, or frames ``[N, T, ...]``, and gives the class of each
    sample.

    Raises:
        LeanspikeError: without NeuroBench, or for neurons whose membrane is not known.

    >>> try:
    ...     neurobench_model(None)
    ... except LeanspikeError as error:
    ...     print(error)
    snn is a NoneType; give what ls.spike returned
    """
    if not isinstance(snn, SpikingNetwork):
        raise LeanspikeError(f"snn is a {type(snn).__name__}; give what ls.spike returned")
    models: Any = import_optional("neurobench.models", EXTRA)
    watch = _Watch(snn)

    class SpikingModel(models.NeuroBenchModel):  # type: ignore[misc]
        """Fills NeuroBench's hooks step by step."""

        def __call__(self, batch: Tensor) -> Tensor:
            return watch.classes(batch)

        def __net__(self) -> nn.Module:
            return snn

        def register_hooks(self) -> None:
            """Register a hook for each layer of neurons and for each layer with weights."""
            self.activation_hooks = list(watch.neurons.values())
            self.connection_hooks = list(watch.layers.values())

    return SpikingModel()


@final
class _Watch:
    """Runs a network step by step and tells NeuroBench's hooks what there was to see."""

    def __init__(self, snn: SpikingNetwork) -> None:
        self.snn = snn
        neuron_hook = import_optional("neurobench.hooks.neuron", EXTRA).NeuronHook
        layer_hook = import_optional("neurobench.hooks.layer", EXTRA).LayerHook
        self.neurons = {path: neuron_hook(None, path) for path, _ in snn.neurons()}
        for path, neuron in snn.neurons():
            self.neurons[path].layer = neuron
        # Each hook gets a copy, as a hook takes its layer off and on again, and runs it.
        self.layers = {
            node: layer_hook(deepcopy(plain(snn.get_submodule(str(node.target)))))
            for node in snn.synaptic_nodes()
        }

    @torch.no_grad()
    def classes(self, batch: Tensor) -> Tensor:
        """Return the class with the largest output over all steps for each sample, ``[N]``."""
        frames = self.snn.plan.encoder.batch_axis == 1
        steps = batch.shape[1] if frames else self.snn.timesteps
        state, total = None, torch.zeros(())
        with eval_mode(self.snn):
            for step in range(steps):
                x_N = batch[:, step] if frames else batch
                y_NK, after = self.snn.step(x_N, state, observer=self._see)
                self._see_membranes(state, after)
                total, state = total.to(y_NK.device) + y_NK, after
        return total.argmax(-1)

    def _see(self, node: fx.Node, values: Mapping[fx.Node, Any], value: Any) -> None:
        if node in self.layers:
            source = signal_nodes(node)[0]
            x_N = values[source]
            spikes = source.meta["signal"].kind == "spike"
            self.layers[node].inputs.append((x_N.sign() if spikes else x_N,))
        elif node.op == "call_module" and str(node.target) in self.neurons:
            self.neurons[str(node.target)].activation_outputs.append(value[0])

    def _see_membranes(self, before: State | None, after: State) -> None:
        for path, neuron in self.snn.neurons():
            hook, u_N = self.neurons[path], _membrane(path, neuron, after.neurons[path])
            last_N = u_N if before is None else _membrane(path, neuron, before.neurons[path])
            hook.pre_fire_mem_potential.append(last_N)  # NeuroBench reads none for the first step
            hook.post_fire_mem_potential.append(u_N)


def _membrane(path: str, neuron: nn.Module, state: Any) -> Tensor:
    """Return the membrane in a neuron's state."""
    names = neuron.remembers if isinstance(neuron, Neuron) else ()
    parts = state if isinstance(state, tuple) else (state,)
    if "membrane" in names and len(names) == len(parts):
        found: Tensor = parts[names.index("membrane")]
        return found
    raise LeanspikeError(
        f"{path}: {type(neuron).__name__} does not say which part of its state is a membrane, "
        'whose updates NeuroBench counts; give the class remembers = ("membrane",)'
    )


@final
class _Loader:
    """Batches as NeuroBench goes through them: samples first."""

    def __init__(self, pairs: Any, sizes: list[int], axis: int) -> None:
        self.pairs, self.sizes, self.axis = pairs, sizes, axis
        self.dataset = range(sum(sizes))

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, labels in self.pairs:
            if len(labels):
                yield x.transpose(0, 1) if self.axis == 1 else x, labels


def _run(model: Any, loader: _Loader) -> dict[str, Any]:
    """Return what NeuroBench's benchmark finds, unless it says that a metric failed."""
    benchmarks = import_optional("neurobench.benchmarks", EXTRA)
    static = import_optional("neurobench.metrics.static", EXTRA)
    workload = import_optional("neurobench.metrics.workload", EXTRA)
    metrics = [[getattr(kind, name) for name in names] for kind, names in
               ((static, STATIC), (workload, WORKLOAD))]  # fmt: skip
    benchmark = benchmarks.Benchmark(model, loader, [], [], metrics)
    said = io.StringIO()  # where a metric fails, NeuroBench says so, and gives 0
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        found: dict[str, Any] = benchmark.run()
    failed = [line for line in said.getvalue().splitlines() if line.startswith("Error")]
    if failed:
        raise LeanspikeError(
            f"NeuroBench failed ({failed[0]}); measure without it, leanspike.evaluate(snn, data)"
        )
    return found
