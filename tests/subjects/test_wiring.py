"""A user's network between the data set's images and its order of classes: on which device it lies."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from airepair.formats.model_file import ModelFile
from airepair.subjects.user_model.class_order import Wiring
from airepair.subjects.user_model.input_spec import InputSpec


def test_an_input_scaling_lies_where_its_network_does() -> None:
    """Its numbers are on the network's device (a GPU's, or as here one that computes nothing), and so
    is the order of its classes; a network that is fed as it stands is itself.
    """
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to("meta")
    opened = ModelFile(net, "torch", Path("m.pt"), lambda module, out: None)
    wiring = Wiring(net, opened, None, tuple(range(9, -1, -1)), None, (1, 8, 8))
    fed = wiring.module(InputSpec(input_range=(0.0, 1.0), mean=(0.1,), std=(0.3,)))
    assert {name for name, _ in fed.named_buffers()} == {"mean", "std", "order"}
    assert {t.device.type for t in (*fed.parameters(), *fed.buffers())} == {"meta"}
    plain = Wiring(net, opened, None, None, None, (1, 8, 8))
    assert plain.module(InputSpec(input_range=(0.0, 1.0))) is net
