"""Repairs a job in TensorFlow/Keras; torch is not installed here.

Layouts: Keras wants N x H x W x C, kernels H x W x in x out, dense in x out.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf
from safetensors.numpy import load_file, save_file


def both(value):
    """A size as a pair."""
    return tuple(value) if isinstance(value, list) else (value, value)


def padded(layer, build):
    """A layer behind the zeros that PyTorch puts around its images."""
    pad = both(layer["padding"])
    return [keras.layers.ZeroPadding2D(pad), build] if any(pad) else [build]


def layers_of(layer):
    """The Keras layers of one layer of the description."""
    kind, name = layer["kind"], "layer_" + layer["name"].replace(".", "_")
    if kind == "Conv2d":
        size = {k: both(layer[k]) for k in ("kernel_size", "stride", "dilation")}
        made = keras.layers.Conv2D(
            layer["out_channels"],
            size["kernel_size"],
            size["stride"],
            dilation_rate=size["dilation"],
            groups=layer["groups"],
            use_bias=layer["bias"],
            name=name,
        )
        return padded(layer, made)
    if kind.startswith("BatchNorm"):
        return [
            keras.layers.BatchNormalization(momentum=1 - layer["momentum"], epsilon=layer["eps"], name=name)
        ]
    if kind == "Linear":
        return [keras.layers.Dense(layer["out_features"], use_bias=layer["bias"], name=name)]
    if kind == "MaxPool2d" and not any(both(layer["padding"])):
        return [keras.layers.MaxPooling2D(both(layer["kernel_size"]), both(layer["stride"]))]
    if kind == "Flatten":  # PyTorch flattens channels first
        return [keras.layers.Permute((3, 1, 2)), keras.layers.Flatten()]
    simple = {"ReLU": keras.layers.ReLU, "Identity": keras.layers.Identity}
    if kind not in simple:
        raise SystemExit(f"a {kind} layer cannot be rebuilt here")
    return [simple[kind]()]


TENSORS = {
    "Conv2d": ("weight", "bias"),
    "Linear": ("weight", "bias"),
    "BatchNorm": ("weight", "bias", "running_mean", "running_var"),
}


def tensors_of(layer):
    """The names of a layer's tensors in PyTorch, in the order of Keras' own, and the axes that take
    PyTorch's layout to Keras'.
    """
    for kind, names in TENSORS.items():
        if layer["kind"].startswith(kind):
            axes = {"Conv2d": (2, 3, 1, 0), "Linear": (1, 0)}.get(kind)
            used = [n for n in names if n != "bias" or layer["bias"] or kind == "BatchNorm"]
            return [(f"{layer['name']}.{n}", axes if n == "weight" else None) for n in used]
    return []


def load(model, description, state):
    """PyTorch's tensors into the Keras layers of the same name."""
    for layer in description:
        found = [state[n] if axes is None else state[n].transpose(axes) for n, axes in tensors_of(layer)]
        if found:
            model.get_layer("layer_" + layer["name"].replace(".", "_")).set_weights(found)


def state_of(model, description, start):
    """The Keras weights under PyTorch's names; what Keras does not hold stays as it was."""
    state = dict(start)
    for layer in description:
        names = tensors_of(layer)
        values = model.get_layer("layer_" + layer["name"].replace(".", "_")).get_weights() if names else []
        for (name, axes), value in zip(names, values, strict=True):
            state[name] = np.ascontiguousarray(value if axes is None else value.transpose(np.argsort(axes)))
    return state


class Report(keras.callbacks.Callback):
    """Progress in the form that the harness reads; the best weights on validation are kept, the
    start included.
    """

    def __init__(self, epochs, best, weights):
        super().__init__()
        self.epochs, self.best, self.weights = epochs, best, weights

    def on_epoch_end(self, epoch, logs=None):
        print(json.dumps({"progress": ["keras fine-tuning", epoch + 1, self.epochs, float(logs["loss"])]}))
        if logs["val_accuracy"] > self.best:
            self.best, self.weights = logs["val_accuracy"], self.model.get_weights()


def main(folder: Path) -> None:
    """Rebuilds, checks, trains, writes back."""
    job, data = json.loads((folder / "job.json").read_text()), np.load(folder / "data.npz")
    description, start = (
        json.loads((folder / "model.json").read_text()),
        load_file(folder / "model.safetensors"),
    )
    keras.utils.set_random_seed(job["seed"])
    tf.config.experimental.enable_op_determinism()
    x = {k: data[f"{k}_x"].transpose(0, 2, 3, 1) for k in ("train", "failing", "validation")}
    y = {k: data[f"{k}_y"] for k in x}
    made = [layer for described in description for layer in layers_of(described)]
    model = keras.Sequential([keras.Input(x["failing"].shape[1:]), *made])
    load(model, description, start)
    options = job["options"]
    optimizer = keras.optimizers.SGD(options["lr"], momentum=0.9, nesterov=True)
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    wrong = float((model.predict(x["failing"], verbose=0).argmax(1) != y["failing"]).mean())
    print(
        f"the rebuilt network gets {wrong:.4f} of the failing inputs wrong (1 where the conversion is exact)"
    )
    if wrong < 0.98:
        raise SystemExit("the rebuilt network is not the subject")
    best = model.evaluate(x["validation"], y["validation"], verbose=0)[1]
    report = Report(options["epochs"], best, model.get_weights())
    images, labels = np.concatenate([x["train"], x["failing"]]), np.concatenate([y["train"], y["failing"]])
    checked = (x["validation"], y["validation"])
    model.fit(images, labels, 64, options["epochs"], verbose=0, validation_data=checked, callbacks=[report])
    model.set_weights(report.weights)
    save_file(state_of(model, description, start), folder / "result.safetensors")
    counts = {
        "backward": len(labels) * options["epochs"],
        "forward": len(y["validation"]) * (options["epochs"] + 1),
    }
    (folder / "result.json").write_text(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
