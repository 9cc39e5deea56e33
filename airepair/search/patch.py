"""Some weights of a module as one vector, and the logits under a whole population of such vectors.

If all of them sit in a last dense layer, the features below it are kept and one matrix product
serves the population. Otherwise the outputs up to the first changed layer are replayed (prefix.py),
changed layers add what their few changes are worth (sparse.py), and the rest runs under vmap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.evaluation.exam import evaluating, logits_of
from airepair.models.layers import runs
from airepair.search.batched import chunk_of, counted, over
from airepair.search.prefix import Prefix
from airepair.search.sparse import SparseChange
from airepair.types import Meter


@dataclass(frozen=True, eq=False)
class Places:
    """It holds D different weights: `which` (D) numbers the parameter in `names`, `index` (D) is
    the place in that parameter, flattened.
    """

    names: tuple[str, ...]
    which: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def values(self, module: nn.Module) -> Tensor:
        """Returns the weights as they stand (D)."""
        return self._gather([module.get_parameter(n).detach() for n in self.names])

    def _gather(self, tensors: list[Tensor]) -> Tensor:
        found = torch.zeros(len(self), device=tensors[0].device, dtype=tensors[0].dtype)
        for number, tensor in enumerate(tensors):
            here = self.which == number
            found[here] = tensor.reshape(-1)[self.index[here]]
        return found

    @torch.no_grad()
    def write(self, module: nn.Module, vector: Tensor) -> None:
        """Puts the weights (D) into the module, in place."""
        for number, name in enumerate(self.names):
            here = self.which == number
            parameter = module.get_parameter(name)
            flat = parameter.detach().reshape(-1).clone()
            flat[self.index[here]] = vector[here].to(flat)
            parameter.copy_(flat.view_as(parameter))


class PatchedLogits:
    """It computes the logits (P x N x K) of images `x` (N) under a population (P x D) of values for
    `places`.

    `meter` counts P x N images a call.
    """

    def __init__(self, module: nn.Module, places: Places, x: Tensor, meter: Meter) -> None:
        self.module, self.places, self.x, self.meter = module, places, x, meter
        self.layers = [module.get_submodule(n.rpartition(".")[0]) for n in places.names]
        order = runs(module, x)
        returned = [r.layer for r in order if r.returned]
        alone = sum(r.layer is self.layers[0] for r in order) == 1
        self.last_layer = (
            len(self.layers) == 1
            and isinstance(self.layers[0], nn.Linear)
            and self.layers[0] in returned
            and alone
        )
        if self.last_layer:
            self._keep_features()
        else:
            self.prefix = Prefix(module, self.layers, x, outputs=True)
            self.parts = [places.which == i for i in range(len(places.names))]
            self.changes = [
                SparseChange(layer, places.index[here])  # type: ignore[arg-type]
                for layer, here in zip(self.layers, self.parts, strict=True)
            ]
            self.chunk = chunk_of(len(x) * self.prefix.widest, x.device)

    @torch.no_grad()
    def __call__(self, population: Tensor) -> Tensor:
        """The whole population in batched passes."""
        if self.last_layer:
            self.meter.add(len(population) * len(self.x), training=False)
            return self._last(population)
        return self._replayed(population - self.places.values(self.module))

    def one_by_one(self, population: Tensor) -> Tensor:
        """Returns the same logits with nothing kept or batched: one full forward pass for each
        candidate.

        For comparison only.
        """
        original = self.places.values(self.module)
        parts = []
        for vector in population:
            self.places.write(self.module, vector)
            parts.append(logits_of(self.module, self.x))
        self.places.write(self.module, original)
        return torch.stack(parts)

    def _replayed(self, deltas: Tensor) -> Tensor:
        """Logits under each of the changes (P x D)."""
        current = deltas[0]

        def hook(
            change: SparseChange, here: Tensor
        ) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            return lambda _, args, out: change.added(out, args[0], current[here])

        def under(delta: Tensor) -> Tensor:
            nonlocal current
            current = delta
            out: Tensor = self.module(self.x)
            return out

        # Integer places, because a mask would have a length that vmap cannot know.
        where = [here.nonzero()[:, 0] for here in self.parts]
        handles = [
            la.register_forward_hook(hook(c, w))
            for la, c, w in zip(self.layers, self.changes, where, strict=True)
        ]
        try:
            with self.prefix.replaying(), counted(self.meter, len(deltas) * len(self.x)):
                return over(under, (deltas,), self.chunk)
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _keep_features(self) -> None:
        layer, kept = self.layers[0], []
        handle = layer.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
        try:
            with evaluating(self.module):
                self.base = self.module(self.x)
        finally:
            handle.remove()
        width = kept[0].shape[-1]
        self.columns, position = (self.places.index % width).unique(return_inverse=True)
        self.features = kept[0][:, self.columns]
        # Where a candidate's change goes in the flattened (used features x K) matrix.
        self.target = position * self.base.shape[1] + self.places.index // width
        self.original = self.places.values(self.module)

    def _last(self, population: Tensor) -> Tensor:
        used, k = len(self.columns), self.base.shape[1]
        change = population.new_zeros(len(population), used * k)
        change[:, self.target] = population - self.original
        stacked = change.view(-1, used, k).transpose(0, 1).reshape(used, -1)
        logits: Tensor = self.base + (self.features @ stacked).view(len(self.x), -1, k).transpose(0, 1)
        return logits
