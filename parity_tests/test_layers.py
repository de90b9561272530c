"""Layers of the two backends against each other and against torch's own operations, in float64."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import gan_jax.layers as jax_layers
import gan_torch.layers as torch_layers
from gan_jax import interop
from gan_shared.errors import UserError
from gan_shared.initial import ONES, ZEROS
from parity_tests.pair import assert_close

pytestmark = pytest.mark.fast

# Sums of at most a few thousand float64 products.
TOLERANCE = 1e-12

BATCHES = {
    "normal": lambda rng: rng.standard_normal((4, 3, 5, 6)),
    "one image": lambda rng: rng.standard_normal((1, 3, 2, 2)),
    "constant channel": lambda rng: rng.standard_normal((4, 3, 5, 6)) * np.array([1.0, 0.0, 2.0])[:, None, None] + 0.5,
    # The two-pass variance loses digits only through the subtraction of the mean.
    "mean far above deviation": lambda rng: rng.standard_normal((4, 3, 5, 6)) + 1e3,
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batch_norm_in_training_and_evaluation(kind):
    rng = np.random.default_rng(1)
    x, scale, bias = BATCHES[kind](rng), rng.standard_normal(3), rng.standard_normal(3)
    reference = torch.nn.BatchNorm2d(3).double()
    twin = torch_layers.BatchNorm(3).double()
    with torch.no_grad():
        for module in (reference, twin):
            module.weight.copy_(torch.tensor(scale))
            module.bias.copy_(torch.tensor(bias))
        twin.running_mean.zero_()
        twin.running_var.fill_(1)
    layer = jax_layers.BatchNorm(3)
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3), "num_batches_tracked": jnp.zeros((), jnp.int32)}
    variables = {"params": {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}, "batch_stats": stats}

    # x - mean cancels |mean| / deviation = 1000 units in the last place, squared in the second derivative.
    tolerance = 1e-8 if kind == "mean far above deviation" else 1e-11
    for step in range(3):
        batch = x + step
        tensor = torch.tensor(batch, requires_grad=True)
        expected = reference(tensor)
        (gradient,) = torch.autograd.grad((expected**3).sum(), tensor)
        assert torch.equal(twin(torch.tensor(batch)), expected)

        def value(a, variables=variables):
            y, changed = layer.apply(variables, a, train=True, mutable=["batch_stats"])
            return (y**3).sum(), (y, changed)

        slope, (y, changed) = jax.grad(value, has_aux=True)(jnp.asarray(batch.transpose(0, 2, 3, 1)))
        variables = {**variables, **changed}
        assert_close(np.asarray(y).transpose(0, 3, 1, 2), expected.detach().numpy(), tolerance, "y")
        # The gradient of a normalised sum cancels: its scale is that of the terms that cancel.
        terms = np.abs(3 * expected.detach().numpy() ** 2).max() * np.abs(scale).max()
        assert np.abs(np.asarray(slope).transpose(0, 3, 1, 2) - gradient.numpy()).max() <= tolerance * terms * (
            1 / np.sqrt(batch.var((0, 2, 3)).min() + 1e-5)
        )
        for name, key in (("running_mean", "mean"), ("running_var", "var")):
            assert_close(variables["batch_stats"][key], getattr(reference, name).numpy(), 1e-12, f"{name} {step}")
            assert torch.equal(getattr(twin, name), getattr(reference, name))
        assert int(variables["batch_stats"]["num_batches_tracked"]) == int(twin.num_batches_tracked) == step + 1

    reference.eval()
    twin.eval()
    expected = reference(torch.tensor(x))
    assert torch.equal(twin(torch.tensor(x)), expected)
    y = layer.apply(variables, jnp.asarray(x.transpose(0, 2, 3, 1)), train=False)
    assert_close(np.asarray(y).transpose(0, 3, 1, 2), expected.detach().numpy(), 1e-12, "evaluation")


def test_batch_norm_refuses_one_value_per_channel():
    message = "more than 1 value per channel"
    with pytest.raises(ValueError, match=message):
        torch_layers.BatchNorm(2).train()(torch.ones(1, 2, 1, 1))
    layer = jax_layers.BatchNorm(2)
    variables = nn.meta.unbox(layer.init(jax.random.key(0), jnp.ones((2, 1, 1, 2)), train=False))
    with pytest.raises(ValueError, match="more than one value per channel"):
        layer.apply(variables, jnp.ones((1, 1, 1, 2)), train=True, mutable=["batch_stats"])


def filled(layer: Any, seed: int) -> Any:
    """The layer in float64 with random values: variances positive, u and v of length 1 and far from converged."""
    rng = np.random.default_rng(seed)
    values = {}
    for name, tensor in layer.state_dict().items():
        value = torch.tensor(rng.standard_normal(tuple(tensor.shape)))
        value = value.square() + 0.5 if name == "running_var" else value
        value = value / value.norm() if name in ("weight_u", "weight_v") else value
        values[name] = value if tensor.is_floating_point() else torch.tensor(0)
    layer.double().load_state_dict(values)
    return layer


def nhwc(x: Any) -> np.ndarray:
    """Images in JAX's order of axes; everything else as it is."""
    x = np.asarray(x)
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def layer_derivatives(layer, x, *labels):
    """Value, first derivatives of a cubic loss, those of the penalty on them, and buffers, by name (torch)."""
    points = dict(layer.named_parameters())
    x = torch.tensor(x)
    if x.is_floating_point():
        points["input"] = x.requires_grad_()
    y = layer(x, *map(torch.tensor, labels))
    first = torch.autograd.grad((y**3).sum(), list(points.values()), create_graph=True)
    penalty = torch.stack([(gradient**2).sum() for gradient in first]).sum()
    second = torch.autograd.grad(penalty, list(points.values()))
    found = {"value": nhwc(y.detach())}
    for order, gradients in (("first", first), ("second", second)):
        for name, gradient in zip(points, gradients, strict=True):
            found[f"{order} {name}"] = nhwc(gradient.detach()) if name == "input" else gradient.detach().numpy()
    return found | {name: tensor.numpy() for name, tensor in layer.named_buffers()}


def jax_layer_derivatives(layer, tensors, train, x, *labels):
    """The same in JAX, from torch's tensors."""
    x = nhwc(x)
    declared = nn.meta.unbox(jax.eval_shape(lambda: layer.init(jax.random.key(0), x, train, *labels)))
    wide = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float64 if leaf.shape else np.int32), declared)
    variables = {name: interop.from_torch(tensors, tree) for name, tree in wide.items()}
    points = {"params": variables.pop("params")} | ({"input": x} if x.dtype.kind == "f" else {})

    def loss(points):
        given = {"params": points["params"]} | variables
        y, changed = layer.apply(given, points.get("input", x), train, *labels, mutable=["batch_stats"])
        return (y**3).sum(), (y, changed.get("batch_stats", {}))

    def everything(points):
        def penalty(points):
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(jax.grad(loss, has_aux=True)(points)[0]))

        return jax.grad(loss, has_aux=True)(points), jax.grad(penalty)(points)

    (first, (y, stats)), second = jax.jit(everything)(points)
    found = {"value": y} | interop.to_torch(stats)
    for order, gradients in (("first", first), ("second", second)):
        found |= {f"{order} {name}": value for name, value in interop.to_torch(gradients["params"]).items()}
        found |= {f"{order} input": gradients["input"]} if "input" in gradients else {}
    return found


IMAGES, VECTORS, LABELS = (3, 6, 4, 5), (3, 6), np.array([2, 0, 2])
# Name of the layer, what it is built with, shape of its input.
LAYERS = {
    "bias": ("Conv", (6, 4, 3, ZEROS), {"padding": 1, "bias_initial": ONES}, IMAGES),
    "grouped": ("Conv", (6, 4, 3, ZEROS), {"padding": 1, "groups": 2, "bias_initial": ONES}, IMAGES),
    "grouped, padded beyond the kernel": ("Conv", (6, 9, 2, ZEROS), {"padding": 3, "groups": 3}, IMAGES),
    "depthwise": ("Conv", (6, 6, 3, ZEROS), {"padding": 1, "groups": 6}, IMAGES),
    "depthwise, kernel as large as the image": ("Conv", (6, 6, 4, ZEROS), {"groups": 6}, (3, 6, 4, 4)),
    "spectral": ("Conv", (6, 4, 4, ZEROS), {"stride": 2, "padding": 1, "spectral": True}, IMAGES),
    "spectral, grouped": ("Conv", (6, 4, 3, ZEROS), {"groups": 2, "spectral": True, "bias_initial": ONES}, IMAGES),
    "linear": ("Linear", (6, 4, ZEROS), {}, VECTORS),
    "linear, spectral": ("Linear", (6, 4, ZEROS), {"bias_initial": ONES, "spectral": True}, VECTORS),
    "embedding": ("Embedding", (4, 5, ZEROS), {}, LABELS),
    "embedding of blends": ("Embedding", (4, 5, ZEROS), {}, (3, 4)),
    "embedding, spectral": ("Embedding", (4, 5, ZEROS), {"spectral": True}, LABELS),
    "conditional norm": ("BatchNorm", (6,), {"num_classes": 4}, IMAGES),
}


MODES = [(case, True) for case in LAYERS] + [
    (case, False) for case, (name, _, options, _) in LAYERS.items() if name == "BatchNorm" or "spectral" in options
]


@pytest.mark.parametrize(("case", "train"), MODES, ids=[f"{case}, {train}" for case, train in MODES])
def test_layers_are_equal_to_the_second_derivative(case, train):
    name, arguments, options, shape = LAYERS[case]
    x = np.random.default_rng(3).standard_normal(shape) if isinstance(shape, tuple) else shape
    labels = (LABELS,) if name == "BatchNorm" else ()
    layer = filled(getattr(torch_layers, name)(*arguments, **options), seed=4).train(train)
    tensors = {key: tensor.detach().numpy().copy() for key, tensor in layer.state_dict().items()}
    assert tensors.keys() == layer.declared.keys()
    theirs = layer_derivatives(layer, x, *labels)
    ours = jax_layer_derivatives(getattr(jax_layers, name)(*arguments, **options), tensors, train, x, *labels)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        # Derivatives of a normalised value cancel, in both backends: one digit for each order.
        assert_close(ours[key], expected, 1e-11 if case == "conditional norm" else TOLERANCE, key)


@pytest.mark.parametrize(
    ("name", "arguments", "x"),
    [
        ("Conv", (4, 6, 3, ZEROS), np.ones((2, 4, 5, 5))),
        ("Linear", (4, 6, ZEROS), np.ones((2, 4))),
    ],
    ids=["conv", "linear"],
)
def test_spectral_norm_against_torch_itself(name, arguments, x):
    """Over training steps with weights that move in between, then in evaluation."""
    twin = filled(getattr(torch_layers, name)(*arguments, spectral=True), seed=5)
    plain = {"Conv": lambda: torch.nn.Conv2d(4, 6, 3, bias=False), "Linear": lambda: torch.nn.Linear(4, 6, bias=False)}
    theirs: Any = torch.nn.utils.parametrizations.spectral_norm(plain[name]().double())
    inner = theirs.parametrizations.weight
    with torch.no_grad():
        inner.original.copy_(twin.weight)
        inner[0]._u.copy_(twin.weight_u)
        inner[0]._v.copy_(twin.weight_v)
    x, rng = torch.tensor(x), np.random.default_rng(6)
    for step in range(4):
        twin.train(step < 3)
        theirs.train(step < 3)
        gradients = []
        for module, weight in ((twin, twin.weight), (theirs, inner.original)):
            y = module(x)
            gradients.append((y.detach(), torch.autograd.grad((y**3).sum(), weight)[0]))
        for a, b in zip(*gradients, strict=True):
            assert_close(a, b, 1e-13, f"step {step}")
        assert_close(twin.weight_u, inner[0]._u, 1e-13, "u")
        assert_close(twin.weight_v, inner[0]._v, 1e-13, "v")
        with torch.no_grad():
            change = torch.tensor(rng.standard_normal(tuple(twin.weight.shape)))
            twin.weight.add_(change)
            inner.original.add_(change)


def test_two_training_forwards_before_one_backward_pass():
    """As in loss = D(real) - D(fake): the second forward must not spoil what the first one saved."""
    layer = filled(torch_layers.Linear(4, 3, ZEROS, spectral=True), seed=7)
    x, u = torch.ones(2, 4, dtype=torch.float64), layer.weight_u.clone()
    layer.eval()
    before = layer(x)
    layer.train()
    (before.sum() + layer(x).sum() - layer(2 * x).sum()).backward()
    assert layer.weight.grad is not None and not torch.equal(layer.weight_u, u)


@pytest.mark.parametrize("train", [True, False], ids=["training", "evaluation"])
def test_conditional_norm_against_torch_itself(train):
    layer = filled(torch_layers.BatchNorm(6, num_classes=4), seed=8).train(train)
    x, labels = torch.tensor(np.random.default_rng(9).standard_normal(IMAGES)), torch.tensor(LABELS)
    mean, var = layer.running_mean.clone(), layer.running_var.clone()
    plain = F.batch_norm(x, mean, var, training=train, momentum=0.1, eps=1e-5)
    scale = torch.nn.Embedding.from_pretrained(layer.weight)(labels).reshape(3, 6, 1, 1)
    shift = torch.nn.Embedding.from_pretrained(layer.bias)(labels).reshape(3, 6, 1, 1)
    assert torch.equal(layer(x, labels), plain * scale + shift)
    assert torch.equal(layer.running_mean, mean) and torch.equal(layer.running_var, var)
    assert int(layer.num_batches_tracked) == train


NARROW = [case for case, (name, _, _, _) in LAYERS.items() if name != "Embedding"]


@pytest.mark.parametrize("case", NARROW)
def test_bfloat16_input_on_float32_weights(case):
    """Computed in the input's type, but for statistics and spectral norms, which keep the weights'."""
    name, arguments, options, shape = LAYERS[case]
    labels = (LABELS,) if name == "BatchNorm" else ()
    layer = filled(getattr(torch_layers, name)(*arguments, **options), seed=13).float()
    tensors = {key: tensor.detach().numpy().copy() for key, tensor in layer.state_dict().items()}
    x = torch.tensor(np.random.default_rng(14).standard_normal(shape)).bfloat16()
    y = layer(x, *map(torch.tensor, labels))
    gradients = torch.autograd.grad(y.float().sum(), list(layer.parameters()))
    if name == "BatchNorm":
        wide = filled(torch_layers.BatchNorm(*arguments, **options), seed=13).float()(x.float(), torch.tensor(LABELS))
        assert torch.equal(y, wide.bfloat16()), "rounded before the end"
    assert y.dtype == torch.bfloat16 and {gradient.dtype for gradient in gradients} == {torch.float32}

    twin, image = getattr(jax_layers, name)(*arguments, **options), jnp.asarray(nhwc(x.float()), jnp.bfloat16)
    declared = nn.meta.unbox(jax.eval_shape(lambda: twin.init(jax.random.key(0), image, True, *labels)))
    variables = {key: interop.from_torch(tensors, tree) for key, tree in declared.items()}
    ours, changed = twin.apply(variables, image, True, *labels, mutable=["batch_stats"])
    assert ours.dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits: the sum is rounded once, and so is the weight that the spectral norm divided.
    assert_close(np.asarray(ours, np.float32), nhwc(y.detach().float()), 2**-7, "value")
    for key, value in interop.to_torch(changed.get("batch_stats", {})).items():
        assert_close(value, getattr(layer, key).numpy(), 1e-6, key)


# What the layer of a case is equivalent to; spectral norms and batch normalisation have tests of their own.
ORACLES = {
    "bias": lambda: torch.nn.Conv2d(6, 4, 3, padding=1),
    "grouped": lambda: torch.nn.Conv2d(6, 4, 3, padding=1, groups=2),
    "depthwise": lambda: torch.nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False),
    "linear": lambda: torch.nn.Linear(6, 4, bias=False),
    "embedding": lambda: torch.nn.Embedding(4, 5),
}


@pytest.mark.parametrize("case", ORACLES)
def test_layers_are_equivalent_to_torchs_own(case):
    """Of torch; JAX's are equal to these, to the second derivative."""
    name, arguments, options, shape = LAYERS[case]
    layer, oracle = filled(getattr(torch_layers, name)(*arguments, **options), seed=10), ORACLES[case]().double()
    oracle.load_state_dict(layer.state_dict())
    x = np.random.default_rng(11).standard_normal(shape) if isinstance(shape, tuple) else shape
    assert torch.equal(layer(torch.tensor(x)), oracle(torch.tensor(x)))


@pytest.mark.parametrize("layers", [torch_layers, jax_layers], ids=["torch", "jax"])
def test_conv_and_norm_build_what_each_name_says(layers):
    """Without batch normalisation the convolution has a bias; with it, the normalisation has one."""
    for name, bias, spectral, norm in (
        ("none", ZEROS, False, layers.NoNorm),
        ("batch", None, False, layers.BatchNorm),
        ("spectral", ZEROS, True, layers.NoNorm),
    ):
        conv, found = layers.conv_and_norm(name)
        assert found is norm and conv.func is layers.Conv
        assert conv.keywords == {"bias_initial": bias, "spectral": spectral}
    with pytest.raises(UserError, match="norm: found 'layer', expected a known name; choices: none, batch, spectral"):
        layers.conv_and_norm("layer")


def test_no_norm_leaves_activations_as_they_are():
    x = np.random.default_rng(11).standard_normal(IMAGES)
    module, labels = torch_layers.NoNorm(6, ONES, num_classes=3), torch.tensor(LABELS)
    assert torch.equal(module(torch.tensor(x), labels), torch.nn.Identity()(torch.tensor(x)))
    assert not module.state_dict()
    found, variables = jax_layers.NoNorm(6, ONES, num_classes=3).init_with_output(jax.random.key(0), x, True, LABELS)
    assert not variables and (found == x).all()


TIES = np.array([-30.0, -2.0, -1e-300, -0.0, 0.0, 1e-300, 0.5, 3.0, 30.0])
REFERENCES = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x, approximate="none"),
    "none": lambda x: 1 * x,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_activation_and_its_derivatives_at_ties(name):
    tables = [getattr(layers, table) for table in ("ACTIVATIONS", "OUTPUTS") for layers in (torch_layers, jax_layers)]
    for ours, theirs in (tables[:2], tables[2:]):
        assert list(ours) == list(theirs) and set(ours) <= set(REFERENCES)
        if name not in ours:
            continue
        x = torch.tensor(TIES, requires_grad=True)
        expected, twin = REFERENCES[name](x), ours[name](x)
        slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (expected, twin)]
        assert torch.equal(twin, expected) and torch.equal(*slopes)
        exact = name in ("relu", "leaky_relu", "none")
        # The library's own exponentials, a few units in the last place apart.
        tolerance = 0.0 if exact else 1e-15
        assert_close(jnp.array([*map(theirs[name], TIES)]), expected.detach().numpy(), tolerance, "value")
        assert_close(jax.vmap(jax.grad(theirs[name]))(TIES), slopes[0].numpy(), tolerance, "derivative")


def test_tanh_and_its_derivative_are_equal_at_saturation():
    points = np.array([-400.0, -20.0, -1e-8, 0.0, 1e-8, 20.0, 400.0])
    tensor = torch.tensor(points, requires_grad=True)
    (slope,) = torch.autograd.grad(tensor.tanh().sum(), tensor)
    assert_close(jnp.tanh(jnp.asarray(points)), tensor.tanh().detach().numpy(), 1e-15, "tanh")
    assert_close(jax.vmap(jax.grad(jnp.tanh))(jnp.asarray(points)), slope.numpy(), 1e-15, "derivative")


def test_layers_declare_their_initial_values_and_draw_none():
    boxed: Any = jax_layers.BatchNorm(2).init(jax.random.key(0), jnp.ones((2, 2, 2, 2)), train=False)
    assert boxed["params"]["scale"].initial == ONES
    assert boxed["batch_stats"]["mean"].initial == ZEROS
