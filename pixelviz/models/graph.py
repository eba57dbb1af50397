"""A network as the graph of its blocks, read off a real run: what each gave, and from which blocks that came."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from pixelviz.models.parallel_unet import Level


class Block(NamedTuple):
    """A block of a network that ran, or what the run gave, which has no parameters.

    name: the attributes that lead to it, such as encoder.0.blocks. output: for the first image, (C, H, W), (C,), or of
    several heads (J, C, H, W). sources: the blocks and the inputs from which its own inputs were computed.
    """

    name: str
    kind: str
    parameters: int
    output: Tensor
    sources: tuple[str, ...]


def blocks_of(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of a network's blocks: whatever in it is no list of modules, and of a U-Net's level its parts."""
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | Level):
            yield from blocks_of(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def trace(network: nn.Module, inputs: dict[str, Tensor], **settings: Any) -> list[Block]:
    """The blocks that a run passes, in its order, and last the run's result, as `output`.

    inputs: float tensors by the names of the network's arguments; settings, its other arguments. The edges are those of
    autograd's graph: nothing about the network has to be told twice.
    """
    # The same weights in modules of its own: the graph needs weights that ask for gradients, and everybody's do not.
    weights = {id(weight): nn.Parameter(weight.detach()) for weight in network.parameters()}
    network = copy.deepcopy(network, weights)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    made = {get_gradient_edge(leaf).node: name for name, leaf in leaves.items()}
    found: list[Block] = []

    def sources(values: tuple[Any, ...]) -> tuple[str, ...]:
        left = [get_gradient_edge(v).node for v in values if isinstance(v, Tensor) and v.requires_grad]
        seen, names = set(left), set()
        while left:
            node = left.pop()
            if node in made:
                names.add(made[node])
                continue
            after = {one for one, _ in node.next_functions if one is not None} - seen
            seen |= after
            left += after
        return tuple(name for name in made.values() if name in names)  # in the order of the run

    def note(name: str, module: nn.Module | None, values: tuple[Any, ...], output: Tensor) -> None:
        count = sum(weight.numel() for weight in module.parameters()) if module else 0
        output_of_first = output.detach()[0].float().cpu()
        found.append(Block(name, type(module).__name__ if module else "", count, output_of_first, sources(values)))
        made[get_gradient_edge(output).node] = name

    for name, block in blocks_of(network):
        block.register_forward_hook(partial(note, name))
    with torch.enable_grad():
        result = network(**leaves, **settings)
        note("output", None, (result,), result)
    return found
