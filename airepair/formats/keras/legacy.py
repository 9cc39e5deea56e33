"""Keras configurations of 2016 to 2023 in the words of Keras 3: layers, keywords and input shapes that
it has renamed, moved or dropped.

Only what Keras is handed is changed, never the user's file. What has no part in a trained network's
answers (initialisers, regularisers, constraints, Keras 2's switches for how a batch norm is
computed) is left out; a keyword that is not known here stays, so that Keras refuses it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airepair.errors import UsageError

_WRAPPERS = {  # class of a model -> as Keras 3 writes it
    "Sequential": {"class_name": "Sequential", "module": "keras"},
    "Functional": {"class_name": "Functional", "module": "keras.src.models.functional"},
    "Model": {"class_name": "Functional", "module": "keras.src.models.functional"},
}
_CLASSES = {  # name of a layer in Keras 1, tf.keras of TensorFlow 1, or Keras 2 -> in Keras 3
    "Convolution2D": "Conv2D",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
_KEYWORDS = {  # keyword of Keras 1 (2016) or Keras 2 -> of Keras 3, in the layers that have it
    "nb_filter": ("filters", ("Conv2D",)),
    "subsample": ("strides", ("Conv2D",)),
    "border_mode": ("padding", ("Conv2D", "MaxPooling2D", "AveragePooling2D")),
    "dim_ordering": (
        "data_format",
        (
            "Conv2D",
            "MaxPooling2D",
            "AveragePooling2D",
            "GlobalMaxPooling2D",
            "GlobalAveragePooling2D",
            "Flatten",
            "ZeroPadding2D",
        ),
    ),
    "bias": ("use_bias", ("Conv2D", "Dense")),
    "output_dim": ("units", ("Dense",)),
    "p": ("rate", ("Dropout", "SpatialDropout2D")),
    "alpha": ("negative_slope", ("LeakyReLU",)),
    "batch_input_shape": ("batch_shape", ("InputLayer",)),
}
_VALUES = {
    "data_format": {"tf": "channels_last", "th": "channels_first"},
    "activation": {"softmax_v2": "softmax", "log_softmax_v2": "log_softmax"},
}
_WITHOUT_EFFECT = re.compile(
    r"\w+_(initializer|regularizer|constraint)|init|[Wb]_(regularizer|constraint)|activity_regularizer|fused|renorm\w*"
)
_OF_THE_INPUT = ("batch_input_shape", "input_shape", "input_dim", "input_dtype", "input_length")
_USUAL = {
    "sparse": (False,),
    "ragged": (False,),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "mode": (0,),
    "weights": (None,),
}


@dataclass(frozen=True)
class Architecture:
    """It holds a configuration as Keras 3 takes it, names of its layers -> names in the file, and
    the file beside the weights that it came from.
    """

    config: dict[str, Any]
    names: dict[str, str]
    beside: Path | None = None


def modern(config: Any, path: Path) -> dict[str, Any]:
    """Returns the configuration of a Sequential or Functional model of Keras 1, 2 or 3 as Keras 3
    writes it.

    UsageError for any other.
    """
    found = config.get("class_name") if isinstance(config, dict) else type(config).__name__
    if found not in _WRAPPERS:
        raise UsageError(f"{path} holds a {found!r} model; Sequential and Functional ones are read")
    inner = config.get("config")
    inner = dict(inner) if isinstance(inner, dict) else {"name": "sequential", "layers": inner}
    layers = inner.get("layers")
    if not isinstance(layers, list) or not layers or not all(_is_layer(layer) for layer in layers):
        raise UsageError(f"{path}: its configuration has no list of layers")
    made = [_layer(layer) for layer in layers]
    if found == "Sequential" and made[0]["class_name"] != "InputLayer":
        shape = _input_shape(layers[0]["config"], inner.get("build_input_shape"))
        if shape is None:
            raise UsageError(
                f"{path}: its configuration does not say the shape of the input; "
                f"save the model after it was built or fitted"
            )
        made.insert(0, _input_layer(shape, {layer["config"].get("name") for layer in made}))
    inner.pop("dtype", None)
    return {
        **_WRAPPERS[found],
        "config": {**inner, "layers": made},
        "registered_name": config.get("registered_name"),
    }


def _is_layer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("class_name"), str)
        and isinstance(value.get("config"), dict)
    )


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    kind = _CLASSES.get(layer["class_name"], layer["class_name"])
    settings = {}
    for key, value in layer["config"].items():
        if (
            _WITHOUT_EFFECT.fullmatch(key)
            or (key in _OF_THE_INPUT and kind != "InputLayer")
            or value in _USUAL.get(key, ())
        ):
            continue
        new, owners = _KEYWORDS.get(key, (key, ()))
        settings[new if kind in owners else key] = value
    if {"nb_row", "nb_col"} <= settings.keys():
        settings["kernel_size"] = [settings.pop("nb_row"), settings.pop("nb_col")]
    if kind == "InputLayer" and isinstance(settings.get("batch_shape"), list):
        settings["batch_shape"] = [None, *settings["batch_shape"][1:]]
    made = {k: v for k, v in layer.items() if k != "build_config"} | {
        "class_name": kind,
        "config": {k: _value(k, v) for k, v in settings.items()},
    }
    return _at_home(made)


def _at_home(layer: dict[str, Any]) -> dict[str, Any]:
    """Modules of Keras moved between versions (keras.engine, keras.src.layers, ...); a class that
    is not Keras's keeps where it says it is from.
    """
    home = str(layer.get("module") or "keras")
    return (
        layer | {"module": "keras.layers", "registered_name": None}
        if re.match(r"(keras|tensorflow\.keras|tf_keras)\b", home) and not _custom(layer)
        else layer
    )


def _custom(layer: dict[str, Any]) -> bool:
    return ">" in str(layer.get("registered_name") or "")


def _value(key: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "ndarray":  # slopes, in Keras 2
        return value.get("value")
    if key == "dtype" and isinstance(value, dict) and isinstance(value.get("config"), dict):
        return value["config"].get("name", value)
    if key == "axis" and isinstance(value, list) and len(value) == 1:
        return value[0]
    if key == "activation" and isinstance(value, dict):
        return _layer(value) if _is_layer(value) else value.get("config", value)
    return _VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value


def _input_shape(settings: dict[str, Any], built: Any) -> list[Any] | None:
    """The input of a Sequential model as its first layer says it, without InputLayer; else as the
    model was built.
    """
    for key in ("batch_input_shape", "input_shape", "input_dim"):
        value = settings.get(key)
        if isinstance(value, list) and value:
            return [None, *(value[1:] if key == "batch_input_shape" else value)]
        if key == "input_dim" and isinstance(value, int):
            return [None, value]
    return [None, *built[1:]] if isinstance(built, list) and built else None


def _input_layer(shape: list[Any], names: set[Any]) -> dict[str, Any]:
    name = "input"
    while name in names:
        name += "_"
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": shape, "dtype": "float32", "name": name},
        "registered_name": None,
    }


def nameable(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the configuration with layer names that torch can have (no "."; Keras 3: no "/"), and
    new name -> the file's.

    Keras 2 had both; Keras on torch raises `parameter name can't contain "."`.
    """
    old = [layer["config"].get("name") for layer in config["config"]["layers"]]
    new: dict[str, str] = {}
    for name in old:
        if isinstance(name, str) and re.search(r"[./]", name):
            plain = re.sub(r"[./]", "_", name)
            while plain in old or plain in new.values():
                plain += "_"
            new[name] = plain

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if isinstance(value, list):
            return [put(v) for v in value]
        return new.get(value, value) if isinstance(value, str) else value

    return put(config) if new else config, {v: k for k, v in new.items()}


def parsed(text: Any, path: Path) -> Any:
    """Returns a JSON text; UsageError, about the file `path`, where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError, TypeError):
        raise UsageError(f"{path}: its configuration is damaged") from None
