"""Single-point faults that ``parity_tests/mutants.py`` plants, one at a time, into a copy of either backend.

Each is a mistake that somebody has made in a port, or could: a constant of another library, an axis or an order
exchanged, a correction left out. All but a few keep shapes and types, so that nothing but a number is wrong.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong line.

    Attributes:
        name: what is wrong.
        file: where.
        old: the right text, which the file holds once.
        new: the wrong one.
        modules: whose code that is, as patterns of ``network/path``, for the locator; empty outside of networks.
        preset: a configuration of the parity tests whose step runs it.
        equivalent: why no test can detect it, where none can.
    """

    name: str
    file: str
    old: str
    new: str
    modules: tuple[str, ...] = ()
    preset: str = "dcgan"
    equivalent: str = ""


SPECTRAL = "conditional-spectral-sigmoid"

LAYERS = (
    Fault(
        "batch normalisation: epsilon 1e-4",
        "gan_jax/layers.py",
        "lax.rsqrt(var + epsilon)",
        "lax.rsqrt(var + 10 * epsilon)",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: epsilon 1e-3",
        "gan_torch/layers.py",
        "            self.epsilon,\n        )",
        "            1e-3,\n        )",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: momentum of the old average",
        "gan_jax/layers.py",
        "(1 - momentum) * old + momentum * lax.stop_gradient(new)",
        "momentum * old + (1 - momentum) * lax.stop_gradient(new)",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: momentum 0.01",
        "gan_torch/layers.py",
        "            self.momentum,\n            self.epsilon,",
        "            self.momentum / 10,\n            self.epsilon,",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: keeps the biased variance",
        "gan_jax/layers.py",
        "unbiased = var * (count / (count - 1))",
        "unbiased = var",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: divides by the unbiased variance",
        "gan_jax/layers.py",
        "return _normalize(x, mean, var, scale",
        "return _normalize(x, mean, var * (count / (count - 1)), scale",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: forwards not counted",
        "gan_torch/layers.py",
        "self.num_batches_tracked.add_(1)",
        "self.num_batches_tracked.add_(0)",
        ("generator/stem.norm",),
    ),
    Fault(
        "batch normalisation: mean detached",
        "gan_jax/layers.py",
        "return _normalize(x, mean, var, scale",
        "return _normalize(x, lax.stop_gradient(mean), var, scale",
        ("generator/*.norm", "discriminator/*.norm"),
    ),
    Fault(
        "LeakyReLU: slope 0.21",
        "gan_jax/layers.py",
        "jnp.where(x > 0, x, slope * x)",
        "jnp.where(x > 0, x, 1.05 * slope * x)",
        ("discriminator/",),
    ),
    Fault(
        "LeakyReLU: slope 0.01",
        "gan_torch/layers.py",
        "F.leaky_relu(x, slope)",
        "F.leaky_relu(x, 0.01)",
        ("discriminator/",),
    ),
    Fault(
        "LeakyReLU: slope 1 at a tie",
        "gan_jax/layers.py",
        "jnp.where(x > 0, x, slope * x)",
        "jnp.where(x >= 0, x, slope * x)",
        ("discriminator/",),
    ),
    Fault(
        "ReLU: slope 1 at a tie",
        "gan_torch/layers.py",
        "    return F.relu(x)",
        "    return x * (x >= 0)",
        ("generator/stem",),
    ),
    Fault(
        "GELU by its approximation",
        "gan_jax/layers.py",
        "approximate=False",
        "approximate=True",
        ("discriminator/",),
        "dcgan-rgb-16",
    ),
    Fault(
        "spectral normalisation: v before u",
        "gan_jax/layers.py",
        "u = _unit(jnp.dot(fixed, v))\n        v = _unit(jnp.dot(u, fixed))",
        "v = _unit(jnp.dot(u, fixed))\n        u = _unit(jnp.dot(fixed, v))",
        ("discriminator/stem",),
        SPECTRAL,
    ),
    Fault(
        "spectral normalisation: gradient enters u and v",
        "gan_jax/layers.py",
        "fixed = lax.stop_gradient(matrix)",
        "fixed = matrix",
        ("discriminator/*",),
        SPECTRAL,
    ),
    Fault(
        "spectral normalisation: norm detached",
        "gan_torch/layers.py",
        "return u @ (matrix @ v)",
        "return (u @ (matrix @ v)).detach()",
        ("discriminator/*",),
        SPECTRAL,
    ),
    Fault(
        "spectral normalisation: iterates in evaluation too",
        "gan_jax/layers.py",
        "if train and not layer.is_initializing()",
        "if not layer.is_initializing()",
    ),
    Fault(
        "spectral normalisation: kernel's axes in Flax's order",
        "gan_jax/layers.py",
        "kernel.transpose(3, 2, 0, 1).reshape(self.out_channels, -1)",
        "kernel.transpose(3, 0, 1, 2).reshape(self.out_channels, -1)",
        ("discriminator/stages.0.conv",),
        SPECTRAL,
    ),
    Fault(
        "average pooling: sum for mean",
        "gan_jax/resampling.py",
        ".mean((2, 4))",
        ".sum((2, 4))",
        ("discriminator/stages.0",),
        "sngan",
    ),
    Fault(
        "average of 3x3: borders do not count",
        "gan_torch/resampling.py",
        "F.avg_pool2d(x, 3, stride=1, padding=1)",
        "F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)",
        ("generator/stages.0",),
        "inception",
    ),
    Fault(
        "average of 3x3: divided by 8",
        "gan_jax/resampling.py",
        "return x / 9",
        "return x / 8",
        ("generator/stages.0",),
        "inception",
    ),
    Fault(
        "nearest upsampling: bilinear",
        "gan_torch/resampling.py",
        'F.interpolate(x, scale_factor=2, mode="nearest")',
        'F.interpolate(x, scale_factor=2, mode="bilinear")',
        ("generator/stages.0",),
        "sngan",
    ),
    Fault(
        "sum of 4x4: the outer rows and columns weigh less",
        "gan_jax/resampling.py",
        "taps[0] + taps[1] + taps[2] + taps[3]",
        "taps[0] / 3 + taps[1] + taps[2] + taps[3] / 3",
        ("discriminator/",),
        "patch",
    ),
    Fault(
        "max pooling: average",
        "gan_torch/resampling.py",
        "F.max_pool2d(x, 2)",
        "F.avg_pool2d(x, 2)",
        ("image_condition/",),
        "vgg-inversion",
    ),
    Fault(
        "smooth upsampling: neighbours exchanged",
        "gan_jax/resampling.py",
        "(before + 3 * x) / 4, (3 * x + after) / 4",
        "(after + 3 * x) / 4, (3 * x + before) / 4",
        ("generator/transitions.0",),
        "r3gan-tiny",
    ),
    Fault(
        "smooth downsampling: 1 2 2 1",
        "gan_jax/resampling.py",
        "(taps[0] + 3 * (taps[1] + taps[2]) + taps[3]) / 8",
        "(taps[0] + 2 * (taps[1] + taps[2]) + taps[3]) / 6",
        ("discriminator/transitions.0",),
        "r3gan-tiny",
    ),
    Fault(
        "smooth upsampling: half its derivative",
        "gan_torch/resampling.py",
        "return 4 * downsample_smooth(*gradients), None",
        "return 2 * downsample_smooth(*gradients), None",
        ("*/transitions.*",),
        "r3gan-tiny",
    ),
    Fault(
        "convolution: kernel turned",
        "gan_torch/layers.py",
        "F.conv2d(x, weight, bias, stride=self.stride",
        "F.conv2d(x, weight.flip(2, 3), bias, stride=self.stride",
        ("discriminator/stem",),
    ),
    Fault(
        "convolution: kernel's height and width exchanged",
        "gan_jax/layers.py",
        "y = convolve(x, kernel, self.stride, self.padding)",
        "y = convolve(x, kernel.swapaxes(0, 1), self.stride, self.padding)",
        ("discriminator/stem",),
    ),
    Fault(
        "transposed convolution: kernel turned",
        "gan_torch/layers.py",
        "            weight,\n            stride",
        "            weight.flip(2, 3),\n            stride",
        ("generator/stages.0.conv",),
    ),
    Fault(
        "bias left out",
        "gan_jax/layers.py",
        "return y + layer.param(",
        "return y + 0 * layer.param(",
        ("generator/stem", "discriminator/*"),
        SPECTRAL,
    ),
)

CONVOLUTION = (
    Fault(
        "transposed convolution: kernel not turned between the phases",
        "gan_jax/convolution.py",
        "stride, outputs, inputs)[::-1, :, ::-1]",
        "stride, outputs, inputs)",
        ("generator/stages.0.conv",),
    ),
    Fault(
        "weight gradient: height and width exchanged",
        "gan_jax/convolution.py",
        "images[:, i : i + (height - 1) * stride + 1 : stride, j : j +",
        "images[:, j : j + (height - 1) * stride + 1 : stride, i : i +",
        ("discriminator/stem",),
    ),
    Fault(
        "weight gradient in parts: the last part lost",
        "gan_jax/convolution.py",
        "for part in parts[1:])",
        "for part in parts[1:-1])",
    ),
    Fault(
        "grouped convolution: kernel turned in one axis only",
        "gan_jax/convolution.py",
        "parts = kernel[::-1, ::-1]",
        "parts = kernel[::-1]",
        ("discriminator/*.conv2",),
        "r3gan-tiny",
    ),
    Fault(
        "convolution: its derivative takes the kernel's rows from the end",
        "gan_jax/convolution.py",
        "        convolve_transpose(gradient, kernel, stride, padding, rest),\n        weight_gradient(x,",
        "        convolve_transpose(gradient, kernel[::-1], stride, padding, rest),\n        weight_gradient(x,",
        ("discriminator/*",),
    ),
    Fault(
        "convolution of the whole map: rows read as columns",
        "gan_jax/convolution.py",
        "jnp.dot(x.reshape(x.shape[0], -1), kernel",
        "jnp.dot(x.transpose(0, 2, 1, 3).reshape(x.shape[0], -1), kernel",
        ("discriminator/head",),
    ),
    Fault(
        "transposed convolution of one pixel: rows written as columns",
        "gan_torch/layers.py",
        "return y.permute(0, 3, 1, 2)",
        "return y.permute(0, 3, 2, 1)",
        ("generator/stem.conv",),
    ),
)

LOSSES = (
    Fault(
        "cross-entropy: reals and fakes exchanged",
        "gan_jax/losses.py",
        "return softplus(-real) + softplus(fake)",
        "return softplus(real) + softplus(-fake)",
    ),
    Fault(
        "minimax: the loss that saturates less",
        "gan_jax/losses.py",
        "return -softplus(fake)",
        "return softplus(-fake)",
    ),
    Fault(
        "least squares: halved",
        "gan_torch/losses.py",
        "return (real - 1).square() + fake.square()",
        "return ((real - 1).square() + fake.square()) / 2",
    ),
    Fault(
        "least squares: target 0.9",
        "gan_jax/losses.py",
        "return jnp.square(fake - 1)",
        "return jnp.square(fake - 0.9)",
    ),
    Fault(
        "hinge: margin 1.1",
        "gan_jax/losses.py",
        "jax.nn.relu(1 - real)",
        "jax.nn.relu(1.1 - real)",
    ),
    Fault(
        "hinge: slope 1 at its corner",
        "gan_torch/losses.py",
        "F.relu(1 - real)",
        "(1 - real) * (real <= 1)",
    ),
    Fault(
        "hinge: slope 1/2 at its corner",
        "gan_jax/losses.py",
        "jax.nn.relu(1 + fake)",
        "jnp.maximum(1 + fake, 0)",
    ),
    Fault(
        "Wasserstein: sign",
        "gan_torch/losses.py",
        "return fake - real",
        "return real - fake",
    ),
    Fault(
        "relativistic: the generator's pair exchanged",
        "gan_torch/losses.py",
        "return softplus(real - fake)",
        "return softplus(fake - real)",
    ),
    Fault(
        "softplus: linear above 20",
        "gan_torch/losses.py",
        "return -F.logsigmoid(-x)",
        "return F.softplus(x)",
    ),
    Fault(
        "sigmoid's digits near 1 lost",
        "gan_torch/losses.py",
        "(-real).sigmoid().square()",
        "(real.sigmoid() - 1).square()",
    ),
)

PENALTIES = (
    Fault(
        "R1 and R2: not halved",
        "gan_jax/losses.py",
        "return jnp.square(gradient).sum((1, 2, 3)) / 2",
        "return jnp.square(gradient).sum((1, 2, 3))",
    ),
    Fault(
        "R1 and R2: mean for sum",
        "gan_torch/losses.py",
        "return gradient.square().sum((1, 2, 3)) / 2",
        "return gradient.square().mean((1, 2, 3)) / 2",
    ),
    Fault(
        "gradient penalty: norm of the whole batch",
        "gan_jax/losses.py",
        "jnp.square(gradient).sum((1, 2, 3)) + 1e-12",
        "jnp.square(gradient).sum() + 1e-12",
    ),
    Fault(
        "gradient penalty: 1e-8 below the root",
        "gan_torch/losses.py",
        "sum((1, 2, 3)) + 1e-12",
        "sum((1, 2, 3)) + 1e-8",
    ),
    Fault(
        "gradient penalty: one-sided",
        "gan_torch/losses.py",
        "+ 1e-12) - 1).square()",
        "+ 1e-12) - 1).clamp(min=0).square()",
    ),
    Fault(
        "R1 at the fakes",
        "gan_jax/losses.py",
        '"r1": Penalty("real"',
        '"r1": Penalty("fake"',
    ),
    Fault(
        "penalty's gradient detached",
        "gan_torch/step.py",
        "    return state, logits, gradient\n",
        "    return state, logits, gradient.detach()\n",
    ),
    Fault(
        "penalty: gamma halved",
        "gan_jax/step.py",
        "return schedule_values.gamma * sum(",
        "return schedule_values.gamma / 2 * sum(",
    ),
    Fault(
        "interpolates: shares exchanged",
        "gan_torch/examples.py",
        "fake.images + share * (real.images - fake.images)",
        "real.images + share * (fake.images - real.images)",
    ),
    Fault(
        "interpolates: one share for the whole batch",
        "gan_jax/examples.py",
        "share = inputs.interpolation[row][:, None, None, None]",
        "share = inputs.interpolation[row][:1, None, None, None]",
    ),
    Fault(
        "penalty: gradient of the sum of an image's logits",
        "gan_jax/step.py",
        "len(logits) / logits.size",
        "1.0",
    ),
)

AUGMENTATION = (
    Fault(
        "flip: top and bottom",
        "gan_jax/augment.py",
        "jnp.flip(images, 2)",
        "jnp.flip(images, 1)",
    ),
    Fault(
        "gate open at the probability itself",
        "gan_torch/augment.py",
        "chosen = uniforms[:, first] < probability",
        "chosen = uniforms[:, first] <= probability",
    ),
    Fault(
        "gate's number used again for the change",
        "gan_torch/augment.py",
        "uniforms[:, first + 1 : first + count]",
        "uniforms[:, first : first + count - 1]",
    ),
    Fault(
        "saturation about the mean of the image",
        "gan_jax/augment.py",
        "mean = images.mean(3, keepdims=True)",
        "mean = images.mean((1, 2, 3), keepdims=True)",
    ),
    Fault(
        "contrast about the mean of each channel",
        "gan_torch/augment.py",
        "mean = images.mean((1, 2, 3), keepdim=True)",
        "mean = images.mean((2, 3), keepdim=True)",
    ),
    Fault(
        "rotation: clockwise",
        "gan_torch/augment.py",
        "torch.cos(angle), torch.sin(angle)",
        "torch.cos(angle), -torch.sin(angle)",
    ),
    Fault(
        "rotation about a pixel beside the centre",
        "gan_jax/augment.py",
        "middle_y, middle_x = (height - 1) / 2, (width - 1) / 2",
        "middle_y, middle_x = height / 2, width / 2",
    ),
    Fault(
        "scale: the inverse",
        "gan_torch/augment.py",
        "torch.exp2(0.5 - uniforms[:, 0])",
        "torch.exp2(uniforms[:, 0] - 0.5)",
    ),
    Fault(
        "crop: edge pixels doubled",
        "gan_torch/augment.py",
        "return last - (last - places.abs()).abs()",
        "return last - (last - (places + (places < 0)).abs()).abs()",
    ),
    Fault(
        "cutout: one centre too few",
        "gan_jax/augment.py",
        "uniform * (size + 1 - side % 2)",
        "uniform * size",
    ),
    Fault(
        "translation: an eighth rounded down",
        "gan_jax/augment.py",
        "limit = (size + 4) // 8",
        "limit = size // 8",
    ),
    Fault(
        "brightness: never darker",
        "gan_jax/augment.py",
        "return images + (uniforms[:, :, None, None] - 0.5)",
        "return images + uniforms[:, :, None, None]",
    ),
)

OPTIMIZERS = (
    Fault(
        "Adam: epsilon below the root",
        "gan_jax/optimizers.py",
        "(jnp.sqrt(v) / correction2 + self.epsilon)",
        "jnp.sqrt(v / correction2**2 + self.epsilon)",
    ),
    Fault(
        "Adam: epsilon before the bias correction",
        "gan_jax/optimizers.py",
        "(jnp.sqrt(v) / correction2 + self.epsilon)",
        "((jnp.sqrt(v) + self.epsilon) / correction2)",
    ),
    Fault(
        "Adam: no bias correction of the average",
        "gan_jax/optimizers.py",
        "correction1 = -jnp.expm1(steps * math.log(self.beta1)) if self.beta1 else 1.0",
        "correction1 = 1.0",
    ),
    Fault(
        "Adam: no bias correction of the squares",
        "gan_jax/optimizers.py",
        "correction2 = jnp.sqrt(-jnp.expm1(steps * jnp.log1p(-complement)))",
        "correction2 = 1.0",
    ),
    Fault(
        "Adam: counts two steps at once",
        "gan_jax/optimizers.py",
        'step, complement = optimizer_state["step"] + 1,',
        'step, complement = optimizer_state["step"] + 2,',
    ),
    Fault(
        "Adam: bias correction of beta2 in float32 (optax)",
        "gan_jax/optimizers.py",
        "jnp.sqrt(-jnp.expm1(steps * jnp.log1p(-complement)))",
        "jnp.sqrt(1 - (1 - complement.astype(jnp.float32)) ** steps)",
    ),
    Fault(
        "Adam: beta1 0.9 whatever is asked",
        "gan_torch/optimizers.py",
        "beta1=rule.beta1,",
        "beta1=0.9,",
    ),
    Fault(
        "Adam: beta2 0.99 whatever is asked",
        "gan_torch/optimizers.py",
        "beta2=1.0 - square_decay_complement,",
        "beta2=0.99,",
    ),
    Fault(
        "Adam, compiled: no bias correction of the squares",
        "gan_torch/optimizers.py",
        "correction2 = (-torch.expm1(steps * torch.log1p(-square_decay_complement))).sqrt()",
        "correction2 = 1.0",
    ),
    Fault(
        "weight decay 1e-4 where none is asked",
        "gan_jax/optimizers.py",
        "return optax.tree.add_scale(gradients, weight_decay, parameters) if weight_decay else gradients",
        "return optax.tree.add_scale(gradients, weight_decay or 1e-4, parameters)",
    ),
    Fault(
        "AdamW: decay not scaled by the learning rate",
        "gan_jax/optimizers.py",
        "-learning_rate * self.weight_decay, parameters)",
        "-self.weight_decay, parameters)",
    ),
    Fault(
        "AdamW: an L2 penalty instead",
        "gan_torch/optimizers.py",
        "decoupled_weight_decay=True",
        "decoupled_weight_decay=False",
    ),
    Fault(
        "RMSprop: decay 0.99 whatever is asked",
        "gan_torch/optimizers.py",
        "alpha=1.0 - square_decay_complement,",
        "alpha=0.99,",
    ),
    Fault(
        "RMSprop: epsilon below the root",
        "gan_jax/optimizers.py",
        "g / (jnp.sqrt(v) + self.epsilon)",
        "g / jnp.sqrt(v + self.epsilon)",
    ),
    Fault(
        "SGD: dampened",
        "gan_torch/optimizers.py",
        "dampening=0.0",
        "dampening=self.momentum",
    ),
    Fault(
        "clipping without 1e-6",
        "gan_jax/optimizers.py",
        "(optax.tree.norm(gradients) + 1e-6)",
        "optax.tree.norm(gradients)",
    ),
)

STEP = (
    Fault(
        "fakes not detached for the discriminator",
        "gan_torch/step.py",
        "images=fake.images.detach()",
        "images=fake.images",
        equivalent="its gradients are taken with respect to the discriminator's parameters alone",
    ),
    Fault(
        "average of the weights: decay and its complement exchanged",
        "gan_jax/step.py",
        "weight = schedule_values.ema_complement",
        "weight = 1 - schedule_values.ema_complement",
    ),
    Fault(
        "average of the weights: a step late",
        "gan_jax/step.py",
        "config, components, state, real, fake, schedule_values, observer=observer\n        )",
        "config, components, update_average(state, schedule_values), real, fake, schedule_values, observer=observer\n"
        "        )\n"
        "        schedule_values = schedule_values._replace(ema_complement=0.0 * schedule_values.ema_complement)",
    ),
    Fault(
        "average of the weights: moved twice",
        "gan_jax/step.py",
        "config, components, state, real, fake, schedule_values, observer=observer",
        "config, components, update_average(state, schedule_values), real, fake, schedule_values, observer=observer",
    ),
    Fault(
        "average of the weights: buffers left out",
        "gan_torch/step.py",
        "(*state.generator.named_parameters(), *state.generator.named_buffers())",
        "(*state.generator.named_parameters(),)",
    ),
    Fault(
        "the generator's update reuses a latent",
        "gan_torch/step.py",
        "        state, fake = fake_examples(config, state, inputs, row, real)\n    augment =",
        "        state, fake = fake_examples(config, state, inputs, 0, real)\n    augment =",
    ),
    Fault(
        "the generator's update reuses reals",
        "gan_jax/step.py",
        "        real = real_examples(config, state, inputs, row)",
        "        real = real_examples(config, state, inputs, 0)",
    ),
    Fault(
        "the generator's update reuses the augmentation",
        "gan_torch/step.py",
        "augment = inputs.augment[row, Part.FAKE]",
        "augment = inputs.augment[0, Part.FAKE]",
    ),
    Fault(
        "fakes augmented like reals",
        "gan_jax/step.py",
        "Examples(images, real.labels, inputs.augment[row, Part.FAKE])",
        "Examples(images, real.labels, inputs.augment[row, Part.REAL])",
    ),
    Fault(
        "fakes before reals",
        "gan_jax/step.py",
        'for point in ("real", "fake", *sorted(',
        'for point in ("fake", "real", *sorted(',
    ),
    Fault(
        "the generator's loss: sum for mean",
        "gan_torch/step.py",
        "loss = adversarial.generator(real_logits, fake_logits).mean()",
        "loss = adversarial.generator(real_logits, fake_logits).sum()",
    ),
    Fault(
        "the generator's forward does not count",
        "gan_jax/step.py",
        "state = state._replace(generator=_with(advanced, state.generator.parameters))",
        "del advanced",
    ),
    Fault(
        "the generator learns at the discriminator's rate",
        "gan_torch/step.py",
        'getattr(schedule_values, f"{network}_learning_rate")',
        "schedule_values.discriminator_learning_rate",
    ),
    Fault(
        "the discriminator's squares decay like the generator's",
        "gan_jax/step.py",
        'getattr(schedule_values, f"{network}_square_decay_complement")',
        "schedule_values.generator_square_decay_complement",
    ),
    Fault(
        "adaptation a step early",
        "gan_jax/step.py",
        "due = (state.step + 1) % ADAPT_EVERY == 0",
        "due = (state.step + 2) % ADAPT_EVERY == 0",
    ),
    Fault(
        "adaptation a quarter as fast",
        "gan_torch/step.py",
        "nimg = ADAPT_EVERY * config.training.batch_size",
        "nimg = config.training.batch_size",
    ),
    Fault(
        "images scaled by 256",
        "gan_torch/examples.py",
        "images.permute(0, 3, 1, 2).to(dtype) / (255 / (1 - low)) + low",
        "images.permute(0, 3, 1, 2).to(dtype) / (256 / (1 - low)) + low",
    ),
    Fault(
        "samples rounded down",
        "gan_jax/examples.py",
        "jnp.rint((images - low)",
        "jnp.floor((images - low)",
    ),
    Fault(
        "the last step that was not finite for the first",
        "gan_torch/step.py",
        "torch.where((first == 0) & ~finite, step, first)",
        "torch.where(~finite, step, first)",
    ),
    Fault(
        "reconstruction: sum for mean",
        "gan_jax/reconstruction.py",
        "jnp.square(fake.images - real.images).mean()",
        "jnp.square(fake.images - real.images).sum()",
    ),
)

INTEROP = (
    Fault(
        "kernels come with height and width exchanged",
        "gan_jax/interop.py",
        "TO_FLAX = {4: (2, 3, 1, 0)",
        "TO_FLAX = {4: (3, 2, 1, 0)",
    ),
    Fault(
        "kernels go with height and width exchanged",
        "gan_jax/interop.py",
        "TO_TORCH = {4: (3, 2, 0, 1)",
        "TO_TORCH = {4: (3, 2, 1, 0)",
    ),
    Fault(
        "embeddings transposed like matrices",
        "gan_jax/interop.py",
        'if path[-1] == "kernel"',
        'if path[-1] in ("kernel", "embedding")',
    ),
    Fault(
        "a view of the device's memory",
        "gan_jax/interop.py",
        'np.array(array, wide, order="C", copy=True)',
        "np.asarray(array, wide)",
    ),
    Fault(
        "Adam's steps counted from 1",
        "gan_jax/state.py",
        "np.array(tree, np.float32)",
        "np.array(tree + 1, np.float32)",
    ),
    Fault(
        "the average restored from the generator",
        "gan_jax/state.py",
        'prefix = f"{network}/"',
        'prefix = f"{role}/"',
    ),
    Fault(
        "the optimiser's averages begin anew on resuming",
        "gan_torch/state.py",
        "if saved is not None:",
        'if saved is not None and key == "step":',
    ),
)

MODELS = (
    Fault(
        "projection: mean for sum",
        "gan_jax/models/dcgan.py",
        "(embedding(labels, train) * x.sum((1, 2)))",
        "(embedding(labels, train) * x.mean((1, 2)))",
        ("discriminator/",),
        SPECTRAL,
    ),
    Fault(
        "projection of a patch: mean for sum",
        "gan_torch/models/patch.py",
        "logits = logits + sum_4x4(scores)",
        "logits = logits + sum_4x4(scores) / 16",
        ("discriminator/",),
        "patch",
    ),
    Fault(
        "activation before the normalisation",
        "gan_torch/models/dcgan.py",
        "return self.activation(self.norm(self.conv(x)))\n\n\nclass Stage",
        "return self.norm(self.activation(self.conv(x)))\n\n\nclass Stage",
        ("generator/stem",),
    ),
    Fault(
        "the image rectified by the first block",
        "gan_jax/models/resnet.py",
        "y = x if self.first else activation(",
        "y = activation(x) if self.first else activation(",
        ("discriminator/stages.0",),
        "sngan",
    ),
    Fault(
        "features read as height, width, channel",
        "gan_jax/models/resnet.py",
        "x.reshape(-1, sizes[0], 4, 4).transpose(0, 2, 3, 1)",
        "x.reshape(-1, 4, 4, sizes[0])",
        ("generator/",),
        "sngan",
    ),
    Fault(
        "shortcut halved",
        "gan_torch/models/resnet.py",
        "return upsample_nearest(self.shortcut(x)) + y",
        "return upsample_nearest(self.shortcut(x)) / 2 + y",
        ("generator/stages.0",),
        "sngan",
    ),
    Fault(
        "branches in another order",
        "gan_jax/models/inception.py",
        "return jnp.concatenate(outputs, 3)",
        "return jnp.concatenate(outputs[::-1], 3)",
        ("generator/stages.0",),
        "inception",
    ),
    Fault(
        "an activation left out",
        "gan_jax/models/r3gan.py",
        "y = activation(conv2(y, train))",
        "y = conv2(y, train)",
        ("generator/stages.0.0",),
        "r3gan-tiny",
    ),
    Fault(
        "learned map transposed",
        "gan_torch/models/r3gan.py",
        "return x[:, :, None, None] * self.basis",
        "return x[:, :, None, None] * self.basis.transpose(1, 2)",
        ("generator/stem",),
        "r3gan-tiny",
    ),
    Fault(
        "detail alone, without the level below",
        "gan_torch/models/lapgan.py",
        "return image_condition + self.detail(x)",
        "return self.detail(x)",
        ("generator/",),
        "lapgan",
    ),
    Fault(
        "colours centred, not scaled",
        "gan_jax/models/vgg16.py",
        " / jnp.array(DEVIATION, images.dtype)",
        "",
    ),
    Fault(
        "mapping network in front of the latents",
        "gan_jax/models/dcgan.py",
        "jnp.concatenate([latents, x], 3)",
        "jnp.concatenate([x, latents], 3)",
        ("generator/mapping",),
        "fashion-cpu",
    ),
    Fault(
        "categories of a categorical latent taken across",
        "gan_torch/models/dcgan.py",
        "(SHARPNESS * groups).softmax(2)",
        "(SHARPNESS * groups).softmax(1)",
        ("generator/",),
        "fashion-cpu",
    ),
    Fault(
        "no activation behind the hidden layer",
        "gan_torch/models/dcgan.py",
        "self.activation(self.hidden(x))",
        "self.hidden(x)",
        ("discriminator/",),
        "fashion-cpu",
    ),
)

SHARED = (
    Fault(
        "schedules a step ahead",
        "gan_shared/schedules.py",
        "nimg = images_seen(config, step)",
        "nimg = images_seen(config, step + 1)",
    ),
    Fault(
        "half of the half-life",
        "gan_shared/schedules.py",
        "return -expm1(-log(2) * batch_size / half_life_nimg)",
        "return -expm1(-2 * log(2) * batch_size / half_life_nimg)",
    ),
    Fault(
        "one stream of numbers for all steps",
        "gan_shared/draws.py",
        "counter=[0, rollbacks, step, int(stream)]",
        "counter=[0, rollbacks, 0, int(stream)]",
    ),
    Fault(
        "weights drawn alike in both networks",
        "gan_shared/initial.py",
        'f"{network}/{name}".encode()',
        "name.encode()",
    ),
)

METRICS = (
    Fault(
        "covariance over N",
        "gan_shared/metrics.py",
        "Moments(count, mean, products / (count - 1))",
        "Moments(count, mean, products / count)",
    ),
    Fault(
        "Frechet distance: the root counted once", "gan_shared/metrics.py", "spread - 2 * overlap", "spread - overlap"
    ),
    Fault(
        "Frechet distance of few images: roots of the singular values",
        "gan_shared/metrics.py",
        "np.linalg.svd(product, compute_uv=False).sum()",
        "np.sqrt(np.linalg.svd(product, compute_uv=False)).sum()",
    ),
    Fault(
        "kernel distance: each image beside itself too",
        "gan_shared/metrics.py",
        "(_kernel_sum(first, first) - _kernel_diagonal(first))",
        "(_kernel_sum(first, first))",
    ),
    Fault(
        "kernel distance: squared kernel",
        "gan_shared/metrics.py",
        "np.vdot(values * values, values)",
        "np.vdot(values, values)",
    ),
    Fault("kernel distance: subsets with repeats", "gan_shared/metrics.py", "replace=False", "replace=True"),
    Fault(
        "precision: a neighbour too few",
        "gan_shared/metrics.py",
        "values[rows] = ordered[:, k]",
        "values[rows] = ordered[:, k - 1]",
    ),
    Fault(
        "recall within the references' neighbourhoods",
        "gan_shared/metrics.py",
        "recalled |= (distances < radius1[rows, None]).any(0)",
        "recalled |= (distances < radius2).any(0)",
    ),
    Fault(
        "density over the k of precision",
        "gan_shared/metrics.py",
        "inside / (coverage_neighbours * len(first))",
        "inside / (recall_neighbours * len(first))",
    ),
    Fault(
        "divergence of the modes from those that were found",
        "gan_shared/metrics.py",
        "np.log(shares * of)",
        "np.log(shares * len(shares))",
    ),
)

FEATURES = (
    Fault(
        "cubic filter: slope of another library", "gan_shared/resize.py", "CUBIC_SLOPE = -0.5", "CUBIC_SLOPE = -0.75"
    ),
    Fault("cubic filter: not widened where images shrink", "gan_shared/resize.py", "max(scale, 1.0)", "1.0"),
    Fault(
        "bilinear: corners aligned",
        "gan_shared/resize.py",
        "np.float32(before / size)",
        "np.float32((before - 1) / (size - 1))",
    ),
    Fault(
        "normalisation folded with torch's epsilon",
        "gan_shared/feature_weights.py",
        "np.sqrt(variance + EPSILON)",
        "np.sqrt(variance + EPSILON / 100)",
    ),
    Fault(
        "normalisation folded without its mean",
        "gan_shared/feature_weights.py",
        "norm_bias - scale * mean",
        "norm_bias",
    ),
    Fault(
        "zeros of SAME on the other sides",
        "gan_torch/features/layers.py",
        "F.pad(x, (left, right, top, bottom))",
        "F.pad(x, (right, left, bottom, top))",
    ),
    Fault(
        "average of 3x3: the zeros count",
        "gan_jax/features/layers.py",
        "resampling.average_pool_3x3(x) * jnp.asarray(9 / inside, x.dtype)",
        "resampling.average_pool_3x3(x)",
    ),
    Fault(
        "depthwise convolution: kernel's height and width exchanged",
        "gan_jax/features/layers.py",
        "* weight[:, 0, i, j]",
        "* weight[:, 0, j, i]",
    ),
    Fault(
        "ReLU6 without its upper bound",
        "gan_jax/features/efficientnet_lite0.py",
        "from jax.nn import relu6",
        "from jax.nn import relu as relu6",
    ),
    Fault(
        "projection rectified",
        "gan_torch/features/efficientnet_lite0.py",
        "y = convolve(tensors, block.project, y)",
        "y = F.relu6(convolve(tensors, block.project, y))",
    ),
    Fault(
        "features of Inception: the largest instead of the mean",
        "gan_torch/features/inception_v3.py",
        "_follow(tensors, INCEPTION, images).mean((2, 3))",
        "_follow(tensors, INCEPTION, images).amax((2, 3))",
    ),
    Fault(
        "features of digits flattened as height, width, channel",
        "gan_jax/features/digits.py",
        "x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)",
        "x.reshape(x.shape[0], -1)",
    ),
)

AREAS = {
    "layers": LAYERS,
    "convolution": CONVOLUTION,
    "losses": LOSSES,
    "penalties": PENALTIES,
    "augmentation": AUGMENTATION,
    "optimisers": OPTIMIZERS,
    "step": STEP,
    "interop": INTEROP,
    "models": MODELS,
    "shared": SHARED,
    "metrics": METRICS,
    "features": FEATURES,
}
FAULTS = {fault.name: fault for faults in AREAS.values() for fault in faults}
