"""Notebook 07 as one script of plain Keras, with AdamW and tf.data: train an EfficientNet on 32x32 images.

python train.py --dataset toy --epochs 3
python train.py --dataset cifar10 --layout cifar --epochs 10
"""

import argparse
import json
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers, ops

from effnet_utils import efficientnet, load_cifar10, load_toy

CLASSES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
    "toy": "disk ring square triangle cross rows columns diagonals checks dots".split(),
}
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--dataset", choices=CLASSES, default="toy")
parser.add_argument("--layout", default="cifar-fast", help="stride layout: imagenet, cifar, cifar-fast, cifar-fine")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--learning-rate", type=float, default=0.006, help="peak of the one-cycle schedule")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output-dir", type=Path, default=Path("runs/train"), help="for model.keras and classes.json")
args = parser.parse_args()
keras.utils.set_random_seed(args.seed)

# 1. Pairs of images (uint8, 0..255, which the network scales) and labels: yours go here, their names into CLASSES.
train, test = load_toy() if args.dataset == "toy" else load_cifar10()
names = CLASSES[args.dataset]
(x_train, y_train), (x_test, y_test) = ((x, keras.utils.to_categorical(y, len(names))) for x, y in (train, test))

# 2. Augmentation: flip half of the images, shift each by up to two whole pixels.
move = layers.RandomTranslation(2 / 32, 2 / 32, interpolation="nearest")
augment = keras.Sequential([layers.RandomFlip("horizontal"), move])
data = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(len(x_train))
data = data.batch(args.batch_size, drop_remainder=True)
data = data.map(lambda images, targets: (augment(images, training=True), targets)).prefetch(2)

# 3. A network for small images: fewer strides; BatchNorm averages that follow a short run; it ends in logits.
model = efficientnet(
    "b0", layout=args.layout, input_shape=x_train.shape[1:], classes=len(names), classifier_activation=None,
    bn_momentum=0.9, drop_connect_rate=0.0, dropout_rate=0.0, preprocessing="imagenet",
)  # fmt: skip
zero = [model.get_layer("predictions").kernel]  # the classifier and each residual branch start at zero
for layer in model.layers:
    if layer.name.endswith("_add"):
        zero.append(model.get_layer(layer.name.replace("_add", "_project_bn")).gamma)
for variable in zero:
    variable.assign(ops.zeros_like(variable))


# 4. The learning rate climbs from a tenth of its peak for a fifth of the steps, then falls to zero.
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, peak, steps, warmup=0.2):
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step):
        position = ops.cast(step, "float32") / self.steps
        up, down = 0.1 + 0.9 * position / self.warmup, (1 - position) / (1 - self.warmup)
        return self.peak * ops.maximum(ops.minimum(up, down), 0.0)


# 5. Weight decay on kernels only, label smoothing, and the usual compile and fit.
optimizer = keras.optimizers.AdamW(OneCycle(args.learning_rate, args.epochs * len(data)), weight_decay=0.05)
optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
model.compile(optimizer, loss, metrics=["accuracy"])
model.fit(data, shuffle=False, epochs=args.epochs, verbose=2)  # the dataset shuffles
print(f"test accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.2%}")

# 6. The files that notebooks 09 and 11 take (model_path).
args.output_dir.mkdir(parents=True, exist_ok=True)
keras.Model(model.inputs, model.outputs).save(args.output_dir / "model.keras")  # without the optimizer
(args.output_dir / "classes.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
print(f"written: {args.output_dir}/model.keras, classes.json")
