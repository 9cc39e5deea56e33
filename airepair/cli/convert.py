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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two paths, and what IN does not say of itself."""
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
    parser.add_argument(
        "--net_arch",
        "--net-arch",
        help="network of a bare state dict: resnet (with --depth), mnist, fmnist, "
        "a name of `airepair list models`, or code of your own, "
        "which is run: package.module:factory or file.py:Net",
    )
    parser.add_argument("--depth", type=int, help="depth of a resnet")
    parser.add_argument("--width", type=int, help="channels of a resnet's stem")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="let IN run code when it is read (TorchScript, pickled module); only if you trust its origin",
    )
    parser.add_argument(
        "--weights",
        metavar="KEY",
        help="which weights to use if a checkpoint holds several: model, model_ema, ...",
    )
    parser.add_argument("--trust-lambda", action="store_true", help="the same for Keras Lambda layers")
