"""Makes airepair/models/shipped/digits_keras_cnn.h5: a small Keras CNN for pixels in 0..255, trained
on digits with the grid's label noise.

It stands for a model that a Keras user brings: nothing in it says how it is fed;
digits_keras_cnn.toml beside it does.

    pip install 'airepair[keras,mmdnn]'
    KERAS_BACKEND=torch python examples/keras_subject/make_digits_keras_cnn.py OUT.h5
"""

import sys

import keras
import torch
from keras import layers

from airepair import data
from airepair.subjects.grid import spoil
from airepair.subjects.recipes import training_of

EPOCHS, BATCH, RATE = 60, 64, 3e-3


def network() -> keras.Model:
    """Two convolutions and two dense layers, softmax at the end: 4,010 parameters."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
            layers.BatchNormalization(name="first_norm"),
            layers.MaxPooling2D(name="first_pool"),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="second"),
            layers.BatchNormalization(name="second_norm"),
            layers.MaxPooling2D(name="second_pool"),
            layers.Flatten(name="flat"),
            layers.Dense(32, activation="relu", name="features"),
            layers.Dense(10, activation="softmax", name="digits"),
        ]
    )


def main(out: str) -> None:
    """Trains with Adam to convergence and saves."""
    torch.set_num_threads(1)
    keras.utils.set_random_seed(0)
    digits = data.load("digits", seed=0)
    train = spoil(digits, training_of("digits", "cnn"), seed=0).train
    model = network()
    steps = EPOCHS * -(-len(train) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = {
        name: getattr(digits, name).images().permute(0, 2, 3, 1).numpy() * 255
        for name in ("train", "validation", "test")
    }
    model.fit(images["train"], train.y.numpy(), batch_size=BATCH, epochs=EPOCHS, verbose=0)
    for name in ("validation", "test"):
        print(name, model.evaluate(images[name], getattr(digits, name).y.numpy(), verbose=0)[1])
    model.save(out, include_optimizer=False)


if __name__ == "__main__":
    main(sys.argv[1])
