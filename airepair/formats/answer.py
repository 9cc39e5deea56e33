"""What a converted network answers, to be held against its file."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from airepair.formats.mmdnn.ir import Array
from airepair.formats.model_file import InputScaling


def answer(module: nn.Module, inputs: Array, feed: InputScaling | None) -> Array:
    """Returns the module's logits for inputs of the file (scaled as the file would scale them)."""
    if feed is not None:
        scale, offset = (
            np.asarray(v, np.float32).reshape(1, -1, *[1] * (inputs.ndim - 2))
            for v in (feed.scale, feed.offset)
        )
        inputs = inputs * scale + offset
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    training = module.training
    module.eval()
    with torch.no_grad():
        found = torch.cat([module(x.to(device)) for x in torch.from_numpy(inputs).split(64)])
    module.train(training)
    return found.cpu().numpy()
