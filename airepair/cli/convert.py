"""Converts a model file between PyTorch, Keras, TensorFlow and ONNX, through MMdnn, and prints how
faithful the result is.

The format of IN is detected from its content, that of OUT from its extension: .h5 .keras (Keras),
.pb (frozen graph), none (SavedModel folder), .onnx, .pt2 (exported program), .pt .pth
(TorchScript), .safetensors (state dict). OUT is never overwritten. The written network returns
logits: a final softmax or log-softmax is cut off; scaling inside IN stays in OUT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from airepair.cli.flags import add_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the two paths, and what IN does not say of itself."""
    parser.set_defaults(body="airepair.cli.commands.convert")
    parser.add_argument("source", metavar="IN", type=Path, help="the model file to read")
    parser.add_argument(
        "target",
        metavar="OUT",
        type=Path,
        help="the file to write; its extension sets the format",
    )
    parser.add_argument(
        "--shape",
        metavar="C,H,W",
        help="shape of one input, if IN does not state it: C,H,W of an image, "
        "784 of a flat vector (default: the first common one that fits)",
    )
    add_flags(parser, "convert")
