"""Style references: the failures of each class are clustered, and one of each cluster stands for
its style (Yu et al. 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from airepair.types import Split


def k_means(points: Tensor, k: int, generator: torch.Generator, rounds: int = 50) -> Tensor:
    """Returns the cluster (0..k-1) of each point (N x D): Lloyd's rounds from k-means++ centres, until
    nothing changes. With N <= k each is its own.
    """
    if len(points) <= k:
        return torch.arange(len(points), device=points.device)
    centres = points[[int(torch.randint(len(points), (), generator=generator))]]
    for _ in range(k - 1):
        distance = torch.cdist(points, centres).square().amin(1).double().cpu()
        if not float(distance.sum()):
            break
        centres = torch.cat(
            [centres, points[torch.multinomial(distance, 1, generator=generator).to(points.device)]]
        )
    found = torch.full((len(points),), -1, device=points.device)
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        if torch.equal(nearest, found):
            break
        found = nearest
        members = torch.nn.functional.one_hot(found, len(centres)).to(points.dtype)
        sizes = members.sum(0)[:, None]
        centres = torch.where(sizes > 0, members.T @ points / sizes.clamp_min(1), centres)
    return found


def references(failures: Split, clusters: int, per_class: int, generator: torch.Generator) -> Tensor:
    """Returns one random failure of each cluster of each class (R x C x H x W): `per_class`
    failures at most, clustered on standardised pixels.
    """
    chosen = []
    for label in failures.y.unique().tolist():
        members = (failures.y == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)[:per_class].to(members.device)]
        x = failures.images(members).flatten(1)
        standardised = (x - x.mean(0)) / x.std(0, correction=0).clamp_min(1e-6)
        cluster = k_means(standardised, clusters, generator).cpu()
        for c in cluster.unique().tolist():
            inside = (cluster == c).nonzero().flatten()
            chosen.append(members[int(inside[torch.randint(len(inside), (), generator=generator)])])
    return failures.images(torch.stack(chosen))
