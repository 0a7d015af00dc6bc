"""An ANN as it is deployed: norms and constant factors are in its weights."""

from __future__ import annotations

import operator
from copy import deepcopy

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils import fuse_conv_bn_eval


@torch.no_grad()
def deployed(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode with fewer operations and the same answers, to rounding.

    Norms go into the convolutions in front of them. A max pool may lie between them if all scales
    are above 0, since the maximum of growing functions is the function of the maximum. A constant
    factor of the answer goes into the last layer.

    >>> conv, norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    >>> _ = nn.init.uniform_(norm.running_mean)
    >>> ann = nn.Sequential(conv, nn.MaxPool2d(2), norm, nn.ReLU()).eval()
    >>> x = torch.randn(2, 1, 8, 8)
    >>> made = deployed(ann)
    >>> [type(layer).__name__ for layer in made.children()]
    ['Conv2d', 'MaxPool2d', 'ReLU']
    >>> torch.allclose(made(x), ann(x), atol=1e-6)
    True
    """
    traced = fx.symbolic_trace(deepcopy(network).eval())
    layers = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        _through_pool(traced, layers, node)
    _factor(traced, layers)
    traced.graph.lint()
    traced.recompile()
    made: nn.Module = fuse(traced)
    return made


def _through_pool(traced: fx.GraphModule, layers: dict[str, nn.Module], norm: fx.Node) -> None:
    """Fold a norm behind a max pool into the convolution in front of the pool."""
    scales = _layer(layers, norm)
    pool = norm.all_input_nodes[0] if norm.all_input_nodes else norm
    conv = pool.all_input_nodes[0] if pool.all_input_nodes else pool
    weights = _layer(layers, conv)
    if not (
        isinstance(scales, nn.BatchNorm2d)
        and isinstance(_layer(layers, pool), nn.MaxPool2d)
        and isinstance(weights, nn.Conv2d)
        and len(pool.users) == len(conv.users) == 1
        and scales.running_var is not None
        and (scales.weight is None or bool((scales.weight > 0).all()))
        and _once(traced, conv)
    ):
        return
    layers[str(conv.target)] = fuse_conv_bn_eval(weights, scales)
    traced.set_submodule(str(conv.target), layers[str(conv.target)])
    norm.replace_all_uses_with(pool)
    traced.graph.erase_node(norm)
    traced.delete_all_unused_submodules()


def _factor(traced: fx.GraphModule, layers: dict[str, nn.Module]) -> None:
    """Fold a number that the answer is multiplied by into the last linear layer."""
    (output,) = (node for node in traced.graph.nodes if node.op == "output")
    product = output.args[0]
    if not isinstance(product, fx.Node) or product.target not in (operator.mul, torch.mul):
        return
    numbers = [value for value in product.args if isinstance(value, int | float)]
    (source, *others) = product.all_input_nodes
    layer = _layer(layers, source)
    alone = len(source.users) == len(product.users) == 1 and not others and _once(traced, source)
    if isinstance(layer, nn.Linear) and len(numbers) == 1 and alone:
        layer.weight.mul_(numbers[0])
        if layer.bias is not None:
            layer.bias.mul_(numbers[0])
        product.replace_all_uses_with(source)
        traced.graph.erase_node(product)


def _layer(layers: dict[str, nn.Module], node: fx.Node) -> nn.Module | None:
    return layers.get(str(node.target)) if node.op == "call_module" else None


def _once(traced: fx.GraphModule, node: fx.Node) -> bool:
    return [other.target for other in traced.graph.nodes].count(node.target) == 1
