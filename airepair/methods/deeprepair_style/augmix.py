"""AugMix's chains of operations, mixed (Hendrycks et al., ICLR 2020), with the stylised image as
one more operation (style-guided DeepRepair).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from airepair.methods.deeprepair_style.augmix_operations import OPERATIONS

STYLE = len(OPERATIONS)  # the operation "replace by the stylised image"


@dataclass(frozen=True)
class Chains:
    """It is AugMix: `width` chains of 1 to `depth` operations per image are mixed by Dirichlet(1)
    weights, then with the image itself by Beta(1, 1).
    """

    width: int = 3
    depth: int = 3
    severity: float = 3.0

    def __call__(self, x: Tensor, stylised: Tensor, generator: torch.Generator) -> Tensor:
        """The mixed images (N x C x H x W). A chain that draws the style starts from the stylised image."""
        n = len(x)
        drawn = torch.randint(STYLE + 1, (n * self.width, self.depth), generator=generator)
        lengths = torch.randint(1, self.depth + 1, (n * self.width, 1), generator=generator)
        drawn[torch.arange(self.depth) >= lengths] = -1  # beyond the chain's end
        starts = (drawn == STYLE).any(1).to(x.device)[:, None, None, None]
        chains = torch.where(
            starts, stylised.repeat_interleave(self.width, 0), x.repeat_interleave(self.width, 0)
        )
        for column in drawn.T:
            chains = self._applied(chains, column, generator)
        weights = torch._sample_dirichlet(torch.ones(n, self.width), generator).to(x)
        mixed = (chains.reshape(n, self.width, *x.shape[1:]) * weights[:, :, None, None, None]).sum(1)
        share = torch.rand(n, generator=generator).to(x)[:, None, None, None]  # Beta(1, 1) is uniform
        return (1 - share) * x + share * mixed

    def _applied(self, x: Tensor, column: Tensor, generator: torch.Generator) -> Tensor:
        """One operation an image: all images that drew the same one together."""
        levels = 0.1 + (self.severity - 0.1) * torch.rand(len(x), generator=generator)
        signs = 2.0 * torch.randint(2, (len(x),), generator=generator) - 1
        result = x.clone()
        for number, operation in enumerate(OPERATIONS):
            chosen = (column == number).nonzero().flatten()
            if len(chosen):
                there = chosen.to(x.device)
                result[there] = operation(x[there], levels[chosen], signs[chosen]).clamp(0, 1)
        return result


def divergence(logits: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the predictions for an image and its changed copies (V x N x K
    logits), averaged over the images.
    """
    p = logits.softmax(2)
    mixture = p.mean(0).clamp(1e-7, 1).log()
    return torch.stack([nn.functional.kl_div(mixture, q, reduction="batchmean") for q in p]).mean()
