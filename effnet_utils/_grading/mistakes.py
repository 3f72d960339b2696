"""What readers get wrong: {grader: {sentence: edits}}, for ``effnet_utils.grading``.

A sentence goes on from "It looks as if". Its edits are pairs (right text, wrong text) in the source of the grader's
reference, and what they make of it is a working function with that one mistake. Results equal to this function's in
all cases show that the reader made the same mistake, however the code is written.
"""

SWISH = "x * keras.ops.sigmoid(beta * x)"
GRADIENT = "gate + x * gate * (1 - gate)"
COMPOUND = "alpha**phi, beta**phi, gamma**phi"
SKIP = "    if strides == 1 and channels == filters:"
MBCONV_SKIP = "    if args.id_skip and args.strides == 1 and args.input_filters == args.output_filters:"
DROP = "if drop_rate > 0:"
DROPOUT = "x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1))(x)\n"
SE_SWITCH = "    if args.se_ratio:"
SE_HERE = """    if args.se_ratio:
        x = se_block(x, max(1, int(args.input_filters * args.se_ratio)), activation=activation)
"""
PROJECTION = "args.output_filters, 1, use_bias"
REPEAT = """    if args.num_repeat > 1:
        changes = {"num_repeat": args.num_repeat - 1, "input_filters": x.shape[-1], "strides": 1}
        args = BlockArgs(**{**vars(args), **changes})
        return mbconv_block(x, args, activation=activation, drop_rate=drop_rate, name=f"{name}next_")
    return x"""

BATCH_NORM = " and not isinstance(layer, layers.BatchNormalization)"
TRAINABLE = f"layer.trainable = k >= start{BATCH_NORM}"
RETURN_HEAT = "return heat"
DEVIATION = "differences.std(ddof=1)"
INTERVAL = "mean - half_width, mean + half_width"

MISTAKES = {
    "swish": {
        "this were ReLU, max(x, 0)": [(SWISH, "keras.ops.relu(x)")],
        "x were cut off at 0 before it is multiplied": [(SWISH, "keras.ops.relu(x) * keras.ops.sigmoid(beta * x)")],
        "tanh were used in place of the sigmoid": [("sigmoid", "tanh")],
        "the sigmoid were not multiplied by x": [(SWISH, "keras.ops.sigmoid(beta * x)")],
        "the sigmoid had the wrong sign, sigmoid(-x)": [("(beta * x)", "(-beta * x)")],
        "the sigmoid were of 1.702 x, as in an approximation of GELU": [("(beta * x)", "(1.702 * x)")],
        "this were hard-swish, with straight lines for the sigmoid": [(SWISH, "keras.ops.hard_silu(x)")],
        "beta were squared": [("(beta * x)", "(beta**2 * x)")],
        "beta were ignored": [("(beta * x)", "(x)")],
        "x were multiplied by beta outside the sigmoid": [(SWISH, "beta * x * keras.ops.sigmoid(x)")],
    },
    "swish_gradient": {
        "this were the sigmoid alone: swish is a product, so its derivative has two terms": [(GRADIENT, "gate")],
        "this were the derivative of the sigmoid alone": [(GRADIENT, "gate * (1 - gate)")],
        "the factor x were missing in the second term": [("x * gate * (1", "gate * (1")],
        "the factor sigmoid(x) were missing in the second term": [("x * gate * (1", "x * (1")],
        "the first term of the product rule, sigmoid(x), were missing": [("gate + x", "x")],
        "the factor 1 - sigmoid(x) were missing in the second term": [(" * (1 - gate)", "")],
        "the sign of the second term were wrong": [("gate + x", "gate - x")],
        "this were swish itself, not its derivative": [(GRADIENT, "x * gate")],
        "this were the derivative of ReLU": [(GRADIENT, "(x > 0) * 1.0")],
    },
    "conv_cost": {
        "a bias were counted": [("return parameters,", "return parameters + out_channels,")],
        "the MACs were counted at the size of the input, not of the output": [("math.ceil", "int"), ("/ stride", "")],
        'the output size were rounded down; with "same" padding it is rounded up': [("math.ceil", "int")],
        "the output size were n // s + n % s, which is right for strides 1 and 2 only": [
            ("math.ceil(height / stride)", "height // stride + height % stride"),
            ("math.ceil(width / stride)", "width // stride + width % stride"),
        ],
        "the groups were ignored": [("in_channels // groups", "in_channels")],
        "the groups were ignored in the MACs": [("out_width * parameters", "out_width * parameters * groups")],
        "each MAC were counted as two operations": [("return parameters, ", "return parameters, 2 * ")],
        "the kernel size were not squared": [("kernel_size**2", "kernel_size")],
        "the order of the results were (MACs, parameters)": [
            ("parameters, out_height * out_width * parameters", "out_height * out_width * parameters, parameters")
        ],
        "you divided both in_channels and out_channels by groups; expected: in_channels alone": [
            ("* out_channels", "* (out_channels // groups)")
        ],
        "you multiplied by groups; expected: in_channels divided by groups": [
            ("in_channels // groups", "in_channels * groups")
        ],
        "you counted kernel_size**2 * in_channels parameters where groups > 1, which is right for depthwise only": [
            ("* out_channels", "* (out_channels if groups == 1 else groups)")
        ],
        "you divided by the stride once; expected: once for the rows and once for the columns": [
            ("math.ceil(height / stride)", "math.ceil(height * width / stride)"),
            ("math.ceil(width / stride)", "1"),
        ],
        "you rounded the number of output pixels up; expected: the rows and the columns, each for itself": [
            ("math.ceil(height / stride)", "math.ceil(height * width / stride**2)"),
            ("math.ceil(width / stride)", "1"),
        ],
        'you left out the padding: with "same" padding and stride 1, the output is as large as the input': [
            ("math.ceil(height / stride)", "((height - kernel_size) // stride + 1)"),
            ("math.ceil(width / stride)", "((width - kernel_size) // stride + 1)"),
        ],
    },
    "round_filters": {
        "you left out the 10 % rule: this is the nearest multiple of 8, at least 8": [
            ("rounded < 0.9 * scaled", "False")
        ],
        "you left out the 10 % rule: this is the nearest multiple of 8, even where that is 0": [
            ("max(8, int(scaled + 4) // 8 * 8)", "int(scaled + 4) // 8 * 8"),
            ("rounded < 0.9 * scaled", "False"),
        ],
        "you rounded every number up; 8 is added only where the result is more than 10 % below filters * width": [
            ("0.9 * scaled", "scaled")
        ],
        "you rounded every number down": [("scaled + 4", "scaled"), ("rounded < 0.9 * scaled", "False")],
        "you rounded down before the 10 % rule, instead of to the nearest multiple of 8": [("scaled + 4", "scaled")],
        "you rounded halves to the even neighbour, as Python's round does": [
            ("int(scaled + 4) // 8 * 8", "round(scaled / 8) * 8")
        ],
        "you compared with filters in the 10 % rule, instead of filters * width": [("0.9 * scaled", "0.9 * filters")],
        "you compared filters * width with 1.1 times the result; compare the result with 0.9 * filters * width": [
            ("rounded < 0.9 * scaled", "scaled > 1.1 * rounded")
        ],
        "you did not make the result a multiple of 8": [("return rounded", "return int(scaled)")],
        "you returned the answer to a question (more than filters * width?), not a number of channels": [
            ("return rounded", "return rounded > scaled")
        ],
    },
    "round_repeats": {
        "you rounded to the nearest number instead of up": [("math.ceil", "round")],
        "you rounded to the nearest number, at least 1, instead of up": [("math.ceil(", "max(1, 0.5 + ")],
        "you rounded down instead of up": [("math.ceil", "math.floor")],
        "you rounded down, at least 1, instead of up": [("math.ceil(", "max(1, ")],
        "you rounded down and added 1, also where nothing was cut off": [("math.ceil(", "(1 + ")],
        "you did not return an int; np.ceil, for one, returns a float": [("int(", "float(")],
        "you rounded the depth up before multiplying": [("depth * repeats", "depth) * math.ceil(repeats")],
    },
    "compound_coefficients": {
        "you returned width, depth, resolution; expected: depth, width, resolution": [
            (COMPOUND, "beta**phi, alpha**phi, gamma**phi")
        ],
        "you left out the exponent phi": [(COMPOUND, "alpha, beta, gamma")],
        "you multiplied by phi; it is the exponent": [(COMPOUND, "alpha * phi, beta * phi, gamma * phi")],
        "you made phi the base; it is the exponent": [(COMPOUND, "phi**alpha, phi**beta, phi**gamma")],
        "you squared the width and the resolution; the squares belong to the MACs": [
            (COMPOUND, "alpha**phi, beta ** (2 * phi), gamma ** (2 * phi)")
        ],
        "you ignored the given alpha, beta and gamma": [(COMPOUND, "1.2**phi, 1.1**phi, 1.15**phi")],
        "you returned the resolution in pixels; expected: a multiplier": [("gamma**phi", "224 * gamma**phi")],
        "you returned the resolution in whole pixels; expected: a multiplier": [
            ("gamma**phi", "round(224 * gamma**phi)")
        ],
    },
    "one_cycle": {
        "the learning rate started at 0; expected: a tenth of the peak": [("0.1 + 0.9 *", "")],
        "the warm-up were missing: the learning rate starts at the peak": [("0.1 + 0.9 *", "1 + 0 *")],
        "the learning rate ended at a tenth of the peak; expected: 0": [("* part", "* (0.1 + 0.9 * part)")],
        "the learning rate fell along a cosine; expected: a straight line": [
            ("* part", "* (0.5 - 0.5 * math.cos(math.pi * part))")
        ],
        "the way down were counted from step 0, so that it does not begin at the peak": [
            ("(total_steps - warm_steps)", "total_steps")
        ],
        "the learning rate stayed at the peak after the warm-up": [("* part", "")],
        "warmup were a number of steps; expected: a fraction of them": [("warmup * total_steps", "warmup")],
        "the end of the warm-up were rounded down to a whole step; expected: not rounded": [
            ("warmup * total_steps", "int(warmup * total_steps)")
        ],
        "the climb went beyond the peak, to 1.1 times the peak": [("0.1 + 0.9 *", "0.1 +")],
        "the climb started at 0.1; expected: a tenth of the peak": [
            ("peak * (0.1 + 0.9 * step / warm_steps)", "0.1 + (peak - 0.1) * step / warm_steps")
        ],
    },
    "unfreeze": {
        "you left BatchNormalization trainable": [(BATCH_NORM, "")],
        "you left each BatchNormalization as it was; expected: frozen": [
            (
                TRAINABLE,
                "if not isinstance(layer, layers.BatchNormalization):\n            layer.trainable = k >= start",
            ),
        ],
        "you set no layer's flag to False; expected: False before `first` and for each BatchNormalization": [
            (TRAINABLE, f"if k >= start{BATCH_NORM}:\n            layer.trainable = True")
        ],
        "you set `model.trainable` but no layer's own flag": [(TRAINABLE, "pass")],
        "you made every layer trainable": [(TRAINABLE, "layer.trainable = True")],
        "you made every layer but BatchNormalization trainable, also those before `first`": [("k >= start", "True")],
        "you froze every layer": [(TRAINABLE, "layer.trainable = False")],
        "you made only those layers trainable whose own name starts with `first`; expected: those after them, too": [
            ("k >= start", "layer.name.startswith(first)")
        ],
        "you left the layers before `first` as they were; expected: frozen": [
            ("k >= start", "(k >= start or layer.trainable)"),
        ],
        "you left the layers from `first` on as they were; expected: trainable": [
            ("k >= start", "k >= start and layer.trainable"),
        ],
        "you left out the layer `first` itself; expected: trainable, as those after it": [("k >= start", "k > start")],
        "you froze the layers from `first` on and made those before it trainable; expected: the other way round": [
            ("k >= start", "k < start")
        ],
        "you left `model.trainable` as it was; expected: True, else no layer is trained, whatever its flag says": [
            ("network.trainable = True", "pass")
        ],
        "you set `model.trainable = True` after the layers' own flags: that sets all of them to True": [
            ("    return sum", "    network.trainable = True\n    return sum"),
            ("network.trainable = True  #", "pass  #"),
        ],
        "you recognised BatchNormalization by its name; expected: by its class, with `isinstance`": [
            ("not isinstance(layer, layers.BatchNormalization)", '"bn" not in layer.name')
        ],
        "you compared the whole name with `first`; expected: only its beginning, with `startswith`": [
            ("name.startswith(first)", "name == first"),
            ("), None)", "), len(names))"),
        ],
        "you set model.trainable = False and left it: then no layer is trained, whatever its own `trainable` says": [
            ("    for k, layer", "    network.trainable = False\n    for k, layer")
        ],
    },
    "grad_cam": {
        "you left out the ReLU": [("np.maximum(weighted.sum(axis=-1), 0)", "weighted.sum(axis=-1)")],
        "you took the absolute value; expected: ReLU": [
            ("np.maximum(weighted.sum(axis=-1), 0)", "np.abs(weighted.sum(axis=-1))")
        ],
        "you used np.max, which takes the maximum along an axis; expected: np.maximum, for each position": [
            ("np.maximum(weighted.sum(axis=-1), 0)", "np.max(weighted.sum(axis=-1), 0)")
        ],
        "you applied ReLU to each channel before the sum": [
            ("weighted.sum(axis=-1)", "np.maximum(weighted, 0).sum(axis=-1)")
        ],
        "you set the negative weights to 0; ReLU belongs after the sum over the channels": [
            ("weights * feature_maps", "np.maximum(weights, 0) * feature_maps")
        ],
        "you multiplied the feature maps by the gradient of each position; expected: by its mean over the positions": [
            ("weights * feature_maps", "gradients * feature_maps")
        ],
        "you took the gradients' mean over the channels; expected: over the positions": [
            ("mean(axis=(0, 1))", "mean(axis=-1, keepdims=True)")
        ],
        "you took the gradients' mean over the axes 1 and 2, as in a batch; the positions are axes 0 and 1 here": [
            ("mean(axis=(0, 1))", "mean(axis=(1, 2), keepdims=True)")
        ],
        "you set negative gradients to 0; ReLU belongs after the sum over the channels": [
            ("gradients.mean(", "np.maximum(gradients, 0).mean(")
        ],
        "you took one mean of all gradients; expected: one for each channel": [("mean(axis=(0, 1))", "mean()")],
        "you took the gradients' maximum over the positions; expected: their mean": [
            ("gradients.mean(", "gradients.max(")
        ],
        "you took the gradients' sum over the positions; expected: their mean": [("gradients.mean(", "gradients.sum(")],
        "you took the absolute value of the gradients": [("gradients.mean(", "np.abs(gradients).mean(")],
        "you took the mean over the channels at the end; expected: their sum": [("weighted.sum(", "weighted.mean(")],
        "you ignored the gradients": [("weights * feature_maps", "feature_maps")],
        "you took the weights from the feature maps and applied them to the gradients": [
            ("gradients.mean(", "feature_maps.mean("),
            ("weights * feature_maps", "weights * gradients"),
        ],
        "you divided the result by its maximum, as for a figure; expected: as it is, so that maps can be compared": [
            (RETURN_HEAT, "return heat / heat.max()")
        ],
        "you scaled the result to 0..1, as for a figure; expected: as it is, so that maps can be compared": [
            (RETURN_HEAT, "return (heat - heat.min()) / (heat.max() - heat.min())")
        ],
    },
    "paired_interval": {
        "you divided by n in the standard deviation, as NumPy's default does; expected: n - 1, ddof=1": [
            ("ddof=1", "ddof=0")
        ],
        "you did not take the pairs together: this is the interval of two independent samples": [
            (DEVIATION, "math.sqrt(changed.var(ddof=1) + base.var(ddof=1))")
        ],
        "you took the standard deviation of `changed` alone; expected: of the differences": [
            (DEVIATION, "changed.std(ddof=1)")
        ],
        "you took the standard deviation of `base` alone; expected: of the differences": [
            (DEVIATION, "base.std(ddof=1)")
        ],
        "you did not divide by the square root of n: this is an interval for one seed, not for the mean": [
            (" / math.sqrt(len(differences))", "")
        ],
        "you divided by n; expected: by its square root": [("math.sqrt(len(differences))", "len(differences)")],
        "you divided by the square root of n - 1; the standard deviation has taken care of that": [
            ("math.sqrt(len(differences))", "math.sqrt(len(differences) - 1)")
        ],
        "you left out t": [("t * deviation", "deviation")],
        "you took 1.96, for infinitely many seeds; expected: t": [("t * deviation", "1.96 * deviation")],
        "you took 2, for many seeds; expected: t": [("t * deviation", "2 * deviation")],
        "you took 4.303, for three seeds; expected: t, which the call gives": [("t * deviation", "4.303 * deviation")],
        "you divided by the square root of 3; expected: by that of the number of seeds": [("len(differences)", "3")],
        "you took the variance; expected: the standard deviation": [("differences.std(", "differences.var(")],
        "you subtracted the wrong way round; expected: changed - base": [("changed - base", "base - changed")],
        "you took half of what is to be added and subtracted; `t` is for both sides": [
            ("t * deviation", "0.5 * t * deviation")
        ],
        "you left out the upper side; expected: low and high, as far from the mean": [
            (INTERVAL, "mean - half_width, mean")
        ],
        "you returned the mean and half the width; expected: low and high": [(INTERVAL, "mean, half_width")],
        "you returned high, low; expected: low, high": [(INTERVAL, "mean + half_width, mean - half_width")],
    },
    "fold_batch_norm": {
        "you left out epsilon": [("variance + epsilon", "variance")],
        "you took 1e-3 for epsilon, Keras's default; expected: the argument": [("+ epsilon", "+ 1e-3")],
        "you added epsilon after the square root": [("np.sqrt(variance + epsilon)", "(np.sqrt(variance) + epsilon)")],
        "you divided by the variance; expected: by the square root of variance + epsilon": [
            ("np.sqrt(variance + epsilon)", "(variance + epsilon)")
        ],
        "you multiplied by the square root; expected: divided by it": [("gamma / np.sqrt", "gamma * np.sqrt")],
        "you left out gamma": [("gamma / np.sqrt", "1 / np.sqrt")],
        "you left the kernel as it was": [("kernel * scale", "kernel")],
        "you left out the mean: the bias is not beta alone": [("beta - mean * scale", "beta")],
        "you left out beta": [("beta - mean * scale", "-mean * scale")],
        "you did not scale the mean": [("mean * scale", "mean")],
        "you scaled beta, too; it is added after the scaling": [("beta - mean * scale", "(beta - mean) * scale")],
        "you added the mean; expected: subtracted": [("beta - mean", "beta + mean")],
        "you scaled the inputs of the kernel; expected: its outputs, the last axis": [
            ("kernel * scale", "kernel * scale[:, None]")
        ],
        "you returned bias, kernel; expected: kernel, bias": [("kernel * scale, bias", "bias, kernel * scale")],
        "you returned the kernel alone; expected: kernel, bias": [("kernel * scale, bias", "kernel * scale")],
        "you left out gamma in the bias": [("mean * scale", "mean * scale / gamma")],
        "you gave the bias the opposite sign; expected: beta minus the scaled mean": [
            ("beta - mean * scale", "mean * scale - beta")
        ],
    },
    "stochastic_depth": {
        "you did not divide the branches that are kept by 1 - drop_rate": [(" / (1 - drop_rate)", "")],
        "you divided the branches that are kept by drop_rate; expected: by 1 - drop_rate": [
            ("/ (1 - drop_rate)", "/ drop_rate")
        ],
        "you left out images with probability 1 - drop_rate; expected: drop_rate": [(">= drop_rate", "< drop_rate")],
        "you made more than one draw for each image": [("(len(branch), 1, 1, 1)", "branch.shape")],
        "you made one draw for the whole batch; expected: one for each image": [
            ("(len(branch), 1, 1, 1)", "(1, 1, 1, 1)")
        ],
        "you left out images at inference too": [("if not training", "if False")],
        "you multiplied the branch by 1 - drop_rate at inference; in training it has been divided by this already": [
            ("return branch\n", "return branch * (1 - drop_rate)\n")
        ],
        "you multiplied the branch by 1 - drop_rate at inference, instead of dividing by it in training": [
            ("return branch\n", "return branch * (1 - drop_rate)\n"),
            (" / (1 - drop_rate)", ""),
        ],
        "you returned the mask alone; expected: the branch times the mask": [
            ("branch * keep", "np.broadcast_to(keep, branch.shape)")
        ],
        "you left out every fifth image, without chance": [
            ("rng.random((len(branch), 1, 1, 1)) >= drop_rate", "(np.arange(len(branch)) % 5 > 0)[:, None, None, None]")
        ],
        "you left out nothing": [("branch * keep / (1 - drop_rate)", "branch")],
    },
    "se_block": {
        "the squeezed channels were a quarter of the channels of x, instead of squeeze_filters": [
            ("squeeze_filters, 1", "max(1, channels // 4), 1")
        ],
        "the squeezed channels were a sixteenth of the channels of x, instead of squeeze_filters": [
            ("squeeze_filters, 1", "max(1, channels // 16), 1")
        ],
        "the squeezed channels were too many by the expansion ratio of 6: squeeze_filters is the number itself": [
            ("squeeze_filters, 1", "6 * squeeze_filters, 1")
        ],
        "the sigmoid at the end were missing": [('"sigmoid"', "None")],
        "there were a softmax at the end instead of a sigmoid": [('"sigmoid"', '"softmax"')],
        "there were a ReLU at the end instead of a sigmoid": [('"sigmoid"', '"relu"')],
        "the activation between the two layers were missing": [("activation=activation", "activation=None")],
        "the activation between the two layers were ReLU instead of swish": [
            ("activation=activation", 'activation="relu"')
        ],
        "the channel weights were added to x instead of multiplied": [("layers.Multiply", "layers.Add")],
        "x were multiplied by 1 + weight": [("([x, channel_weights])", "([x, channel_weights]) + x")],
        "the result were the channel weights alone, without x": [
            ('layers.Multiply(name=f"{name}excite")([x, channel_weights])', "channel_weights")
        ],
        "the mean were over the channels instead of over height and width": [
            ('layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}squeeze")(x)', "x.mean()"),
            ("x.mean()", "keras.ops.mean(x, axis=-1, keepdims=True)"),
        ],
        "the squeeze were missing: the two layers see every pixel": [
            ('layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}squeeze")(x)', "x")
        ],
        "the channel weights had the shape (batch, channels); pass keepdims=True to the pooling layer": [
            ("keepdims=True, ", ""),
            ("layers.Conv2D(\n        squeeze_filters, 1,", "layers.Dense(squeeze_filters,"),
            ("layers.Conv2D(\n        channels, 1,", "layers.Dense(channels,"),
            ('layers.Multiply(name=f"{name}excite")([x, channel_weights])', "x * channel_weights"),
        ],
        "the two activations were swapped": [
            ('activation="sigmoid"', "activation=last"),
            ("activation=activation", 'activation="sigmoid"'),
            ("activation=last", "activation=activation"),
        ],
        "the second layer had the activation of the first instead of a sigmoid": [('"sigmoid"', "activation")],
        "squeeze_filters were taken for a ratio: it is the number of squeezed channels": [
            ("squeeze_filters, 1", "max(1, channels // squeeze_filters), 1")
        ],
        "the second layer had squeeze_filters units: it needs as many as x has channels": [
            ('channels, 1, activation="sigmoid"', 'squeeze_filters, 1, activation="sigmoid"')
        ],
        "the argument activation were ignored: it is always swish": [("activation=activation", 'activation="swish"')],
        "the squeeze took the maximum instead of the mean": [("GlobalAverage", "GlobalMax")],
        "the two layers had no bias": [("=CONV_INITIALIZER", "=CONV_INITIALIZER, use_bias=False")],
    },
    "inverted_residual_block": {
        "there were an activation after the projection": [
            (SKIP, "    x = layers.Activation(activation, name='last')(x)\n" + SKIP)
        ],
        "there were no skip connection": [(SKIP, "    if False:")],
        "the input were added although the stride is 2": [(SKIP, "    if channels == filters:")],
        "the input were added although the channels differ": [(SKIP, "    if strides == 1:")],
        "there were an expansion although expand_ratio is 1": [("if expand_ratio != 1:", "if True:")],
        "the expanded channels were filters * expand_ratio; expected: the input's channels * expand_ratio": [
            ("channels * expand_ratio, 1", "filters * expand_ratio, 1")
        ],
        "the stride were in the expansion instead of the depthwise convolution": [
            ("channels * expand_ratio, 1", "channels * expand_ratio, 1, strides"),
            ("        strides,\n", ""),
        ],
        "the stride were in the projection instead of the depthwise convolution": [
            ("layers.Conv2D(filters, 1,", "layers.Conv2D(filters, 1, strides,"),
            ("        strides,\n", ""),
        ],
        "the stride were ignored where expand_ratio is 1": [
            ("        strides,\n", "        strides if expand_ratio != 1 else 1,\n")
        ],
        "the stride were ignored": [("        strides,\n", "")],
        "there were a full convolution instead of a depthwise one": [
            ("layers.DepthwiseConv2D(\n", "layers.Conv2D(\n        x.shape[-1],\n"),
            ("depthwise_initializer", "kernel_initializer"),
        ],
        "the convolutions had a bias": [("use_bias=False", "use_bias=True")],
        "the activation after the depthwise convolution were missing": [
            ('layers.Activation(activation, name=f"{name}activation")(x)', "x")
        ],
        "the activation after the expansion were missing": [
            ('layers.Activation(activation, name=f"{name}expand_activation")(x)', "x")
        ],
        "the activation were ReLU instead of ReLU6": [
            ("    inputs = x\n", '    inputs = x\n    activation = "relu"\n')
        ],
        "the activation were swish instead of ReLU6": [
            ("    inputs = x\n", '    inputs = x\n    activation = "swish"\n')
        ],
        "kernel_size were ignored": [("        kernel_size,\n", "        3,\n")],
        "you put an activation after the addition": [
            ("    return x", "    return layers.Activation(activation, name='last')(x)")
        ],
        "you added the input only where there is an expansion; expected: also where expand_ratio is 1": [
            (SKIP, "    if strides == 1 and channels == filters and expand_ratio != 1:")
        ],
        "you added the block's output to itself; expected: to the block's input": [("([x, inputs])", "([x, x])")],
        "you took expand_ratio for the number of expanded channels; expected: the input's channels * expand_ratio": [
            ("channels * expand_ratio, 1", "expand_ratio, 1")
        ],
        "you left out BatchNormalization after the expansion": [
            ('layers.BatchNormalization(name=f"{name}expand_bn")(x)', "x")
        ],
        "you left out BatchNormalization after the depthwise convolution": [
            ('layers.BatchNormalization(name=f"{name}bn")(x)', "x")
        ],
        "you left out BatchNormalization after the projection": [
            ('layers.BatchNormalization(name=f"{name}project_bn")(x)', "x")
        ],
        "you put the activations before BatchNormalization; expected: after it": [
            ('layers.BatchNormalization(name=f"{name}expand_bn")(x)', "x"),
            (
                'layers.Activation(activation, name=f"{name}expand_activation")(x)',
                'layers.BatchNormalization()(layers.Activation(activation, name="first")(x))',
            ),
            ('layers.BatchNormalization(name=f"{name}bn")(x)', "x"),
            (
                'layers.Activation(activation, name=f"{name}activation")(x)',
                'layers.BatchNormalization()(layers.Activation(activation, name="second")(x))',
            ),
        ],
        "you ignored the argument activation: it is always ReLU6": [
            ("    inputs = x\n", '    inputs = x\n    activation = "relu6"\n')
        ],
        'you left out padding="same" in the depthwise convolution': [('padding="same"', 'padding="valid"')],
    },
    "mbconv_block": {
        "you put an activation after the projection": [
            (MBCONV_SKIP, "    x = layers.Activation(activation, name='last')(x)\n" + MBCONV_SKIP)
        ],
        "you left out the skip connection": [(MBCONV_SKIP, "    if False:")],
        "you added the input although the stride is 2": [("args.strides == 1 and ", "")],
        "you added the input although the channels differ": [(" and args.input_filters == args.output_filters:", ":")],
        "you added the block's output to itself; expected: to the block's input": [("([x, inputs])", "([x, x])")],
        "you ignored id_skip": [("args.id_skip and ", "")],
        "you built an expand phase although expand_ratio is 1": [("if args.expand_ratio != 1:", "if True:")],
        "you put the stride into the expand convolution instead of the depthwise one": [
            ("args.expand_ratio, 1,", "args.expand_ratio, 1, args.strides,"),
            ("args.kernel_size, args.strides,", "args.kernel_size,"),
        ],
        "you put the stride into the projection instead of the depthwise convolution": [
            (PROJECTION, "args.output_filters, 1, args.strides, use_bias"),
            ("args.kernel_size, args.strides,", "args.kernel_size,"),
        ],
        "you ignored the stride": [("args.kernel_size, args.strides,", "args.kernel_size,")],
        "you ignored the stride where expand_ratio is 1": [
            ("args.kernel_size, args.strides,", "args.kernel_size, args.strides if args.expand_ratio != 1 else 1,")
        ],
        "you used an ordinary convolution instead of a depthwise one": [
            ("DepthwiseConv2D(\n        args.kernel_size", "Conv2D(\n        x.shape[-1], args.kernel_size"),
            ("depthwise_initializer", "kernel_initializer"),
        ],
        "you gave the convolutions a bias": [("use_bias=False", "use_bias=True")],
        "you left out the activation after the expand convolution": [
            ('layers.Activation(activation, name=f"{name}expand_activation")(x)', "x")
        ],
        "you left out the activation after the depthwise convolution": [
            ('layers.Activation(activation, name=f"{name}activation")(x)', "x")
        ],
        "you took the squeezed channels from the expanded channels; expected: from the block's input channels": [
            ("int(args.input_filters * args.se_ratio)", "int(x.shape[-1] * args.se_ratio)")
        ],
        "you rounded the squeezed channels to the nearest number; expected: rounded down by int": [
            ("int(args.input_filters * args.se_ratio)", "round(args.input_filters * args.se_ratio)")
        ],
        "you always squeezed to a quarter of the input channels, whatever se_ratio is": [
            ("int(args.input_filters * args.se_ratio)", "args.input_filters // 4")
        ],
        "you built an SE block although se_ratio is 0": [(SE_SWITCH, "    if True:")],
        "you built an SE block with a quarter of the input channels although se_ratio is 0": [
            (SE_SWITCH, "    if True:"),
            ("args.input_filters * args.se_ratio", "args.input_filters * (args.se_ratio or 0.25)"),
        ],
        "you ignored se_ratio: there is always an SE block with a quarter of the input channels": [
            (SE_SWITCH, "    if True:"),
            ("args.input_filters * args.se_ratio", "args.input_filters * 0.25"),
        ],
        "you left out the SE block": [(SE_SWITCH, "    if False:")],
        "you put the SE block after the projection": [
            (SE_SWITCH, "    if False:"),
            (MBCONV_SKIP, SE_HERE + MBCONV_SKIP),
        ],
        "you put the SE block before the depthwise convolution": [
            (SE_SWITCH, "    if False:"),
            ("    x = layers.DepthwiseConv2D", SE_HERE + "    x = layers.DepthwiseConv2D"),
        ],
        "you ignored the argument activation: it is always swish": [
            ("    inputs = x\n", '    inputs = x\n    activation = "swish"\n')
        ],
        "you did not pass activation on to se_block": [
            ("se_block(x, squeeze_filters, activation=activation", "se_block(x, squeeze_filters")
        ],
        "you used ReLU in the SE block, whatever activation is": [
            (
                "x = se_block(x, squeeze_filters, activation=activation",
                'x = se_block(x, squeeze_filters, activation="relu"',
            )
        ],
        "you built num_repeat blocks; expected: one block, which does not use num_repeat": [("    return x", REPEAT)],
        "you ignored drop_rate": [(DROP, "if False:")],
        "you made more than one draw for each image (noise_shape)": [("noise_shape=(None, 1, 1, 1), ", "")],
        "you made one draw for the whole batch; expected: one for each image": [
            ("noise_shape=(None,", "noise_shape=(1,")
        ],
        "you left out images before the SE block; expected: right before the addition": [
            (DROP, "if False:"),
            (SE_SWITCH, f"{MBCONV_SKIP}\n        if drop_rate:\n            {DROPOUT}{SE_SWITCH}"),
        ],
        "you left out the skip connection too, with the branch": [
            (DROP, "if False:"),
            ("([x, inputs])\n", f"([x, inputs])\n        if drop_rate:\n            {DROPOUT}"),
        ],
        "you left out images although the block has no skip connection": [
            (DROP, "if False:"),
            (MBCONV_SKIP, f"    if drop_rate:\n        {DROPOUT}{MBCONV_SKIP}"),
        ],
        "you ignored bn_epsilon": [("epsilon=bn_epsilon", "epsilon=1e-3")],
        "you set epsilon to 1e-5; expected: bn_epsilon, or 1e-3, which is Keras's default": [
            ("epsilon=bn_epsilon", "epsilon=1e-5")
        ],
        "you ignored bn_momentum": [("momentum=bn_momentum", "momentum=0.99")],
    },
}
