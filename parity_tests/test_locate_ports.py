"""The locator on ports of one's own: right ones pass, and of wrong ones it names the module, the value and the trap."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from torch import nn

from gan_parity import names
from gan_parity.locate import locate, report
from gan_shared.errors import UserError
from parity_tests.port_cases import NORMS, SHAPES, in_evaluation, rows


@pytest.mark.parametrize("case", [*SHAPES, *NORMS], ids=lambda case: case.name)
def test_a_port_of_one_layer(case):
    found = locate(case.original(), case.port(), case.inputs)
    if not case.key:
        assert found is None, report(found, case.name)
        return
    assert found is not None and found.key == case.key
    assert found.module == "module/" and found.kind == type(case.original()).__name__
    text = report(found, case.name)
    assert case.words in text, text
    assert [trap.name for trap in found.traps][:1] == ([case.trap] if case.trap else []), text


class Original(nn.Module):
    """A list, a sequence, a norm, a dropout, and a matrix that is not trained."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.stack = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4 * 5 * 5, 3)
        self.head.requires_grad_(False)

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(block(x))
        x = self.drop(self.norm(self.stack(x)))
        return self.head(x.flatten(1))


class Port(linen.Module):
    """With setup, and at Flax's default type of parameters."""

    padding: int = 1
    in_order: bool = True
    head_name: str = "head"
    twice: bool = False

    def setup(self):
        self.blocks = [linen.Conv(4, (3, 3), padding=self.padding) for _ in range(2)]
        self.stack = linen.Sequential([linen.Conv(4, (3, 3), padding=1), linen.relu, linen.Conv(4, (1, 1), padding=0)])
        self.norm = linen.BatchNorm(use_running_average=True)
        self.drop = linen.Dropout(0.5)
        setattr(self, self.head_name, linen.Dense(3))

    def prepared(self, x):
        x = x.transpose(0, 3, 1, 2) if self.in_order else x
        return x.reshape(x.shape[0], -1) * (2 if self.twice else 1)

    def __call__(self, x, train=False):
        for block in self.blocks:
            x = linen.relu(block(x))
        x = self.drop(self.norm(self.stack(x)), deterministic=not train)
        return getattr(self, self.head_name)(self.prepared(x))


class NnxPort(nnx.Module):
    """The same in nnx."""

    def __init__(self, padding: int = 1):
        rngs = nnx.Rngs(0)
        self.blocks = nnx.List([nnx.Conv(4, 4, (3, 3), padding=padding, rngs=rngs) for _ in range(2)])
        self.stack = nnx.Sequential(
            nnx.Conv(4, 4, (3, 3), padding=1, rngs=rngs), nnx.relu, nnx.Conv(4, 4, (1, 1), rngs=rngs)
        )
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4 * 5 * 5, 3, rngs=rngs)

    def __call__(self, x):
        for block in self.blocks:
            x = nnx.relu(block(x))
        x = self.drop(self.norm(self.stack(x)))
        return self.head(x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1))


class Unnamed(linen.Module):
    """The same with the names that linen gives."""

    blocks: int = 2

    @linen.compact
    def __call__(self, x):
        for _ in range(self.blocks):
            x = linen.relu(linen.Conv(4, (3, 3), padding=1)(x))
        x = linen.Conv(4, (1, 1))(linen.relu(linen.Conv(4, (3, 3), padding=1)(x)))
        x = linen.BatchNorm(use_running_average=True)(x)
        return linen.Dense(3)(x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1))


IMAGES = np.random.default_rng(0).standard_normal((2, 5, 5, 4))


def original() -> nn.Module:
    return Original().eval()


@pytest.mark.parametrize("port", [Port(), Unnamed(), in_evaluation(NnxPort())], ids=["linen", "unnamed", "nnx"])
def test_a_right_port_of_lists_sequences_dropout_and_norms_passes_and_the_original_is_left_as_it_was(port):
    module = original()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert locate(module, port, IMAGES) is None
    after = module.state_dict()
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())


@pytest.mark.parametrize(
    ("port", "flax"),
    [(Port(padding=0), "blocks_0"), (in_evaluation(NnxPort(padding=0)), "blocks/0")],
    ids=["linen", "nnx"],
)
def test_a_mistake_in_a_list_is_found_by_its_path_in_both_frameworks(port, flax):
    found = locate(original(), port, IMAGES)
    assert found is not None and (found.key, found.module) == ("forward/module.0/blocks.0", "module/blocks.0")
    assert found.flax == f"module/{flax}" and found.traps[0].name == "padding of a convolution"
    assert "shape (2, 5, 5, 4) in torch, (2, 3, 3, 4) in the port" in report(found, "x")


def test_a_wrong_input_of_a_module_is_reported_for_its_parent():
    for port, first in ((Port(in_order=False), "flattening before a matrix"), (Port(twice=True), "flattening before")):
        found = locate(original(), port, IMAGES)
        assert found is not None and (found.key, found.module, found.kind) == (
            "input/module.0/head",
            "module/",
            "Original",
        )
        assert found.traps[0].name.startswith(first)


def test_a_module_of_another_name_is_found_and_can_be_named():
    found = locate(original(), Port(head_name="last"), IMAGES)
    assert found is not None and found.key == "tensor/module/head.weight"
    assert "if it is one of last.bias, last.weight, say so by names={" in found.detail
    assert locate(original(), Port(head_name="last"), IMAGES, names={"last": "head"}) is None
    with pytest.raises(UserError, match=r"names: found tail, expected a module of torch's; choices: blocks, blocks\.0"):
        locate(original(), Port(head_name="last"), IMAGES, names={"last": "tail"})
    with pytest.raises(UserError, match=r"names: found lost, expected a module of the port's; choices: blocks_0"):
        locate(original(), Port(), IMAGES, names={"lost": "head"})


def test_names_that_are_all_others_are_refused_where_their_number_differs():
    with pytest.raises(UserError, match=r"modules of the port: found Conv_0, Conv_2, Conv_1.*expected names of torch"):
        locate(original(), Unnamed(blocks=1), IMAGES)


@pytest.mark.parametrize("port", [Port(), NnxPort()], ids=["linen", "nnx"])
def test_dropout_that_drops_is_refused_in_one_line(port):
    options: dict[str, Any] = {"train": True} if isinstance(port, Port) else {}
    with pytest.raises(UserError, match=r"original: found random numbers.*\(drop\), expected .* call \.eval\(\)"):
        locate(Original(), port, IMAGES, **options)
    with pytest.raises(UserError, match=r"port: found random numbers.*expected evaluation mode: deterministic=True"):
        locate(original(), port, IMAGES, **options)


class Outputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.a(x), {"b": self.b(x), "order": x.argsort(1)}


class PortOfOutputs(linen.Module):
    factor: float = 1.0
    alone: bool = False
    width: int = 2

    @linen.compact
    def __call__(self, x):
        a, b = linen.Dense(3, name="a")(x), linen.Dense(2, name="b")(x)
        b = jnp.tile(self.factor * b, (1, self.width // 2))
        return a if self.alone else (a, {"b": b, "order": x.argsort(1)})


def test_several_outputs_are_compared_one_by_one():
    assert locate(Outputs(), PortOfOutputs(), rows()) is None
    for port, key, words in (
        (PortOfOutputs(factor=2.0), "output/module/1", "times what rounding explains"),
        (PortOfOutputs(alone=True), "output/module/", "torch returns 3 arrays, the port 1"),
        (PortOfOutputs(width=4), "output/module/", "output 1 has shape (3, 2) in torch, (3, 4) in the port"),
    ):
        found = locate(Outputs(), port, rows())
        assert found is not None and (found.key, found.module) == (key, "module/") and words in report(found, "x")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(torch.tanh(self.embed(ids)))


class PortOfTied(linen.Module):
    copies: bool = False

    def setup(self):
        self.embed = linen.Embed(7, 4)
        if self.copies:
            self.out = linen.Dense(7, use_bias=False)

    def __call__(self, ids):
        x = jnp.tanh(self.embed(ids))
        return self.out(x) if self.copies else self.embed.attend(x)


def test_a_parameter_with_two_names_is_one_parameter():
    ids = np.array([[1, 2, 3], [3, 3, 0]])
    assert locate(Tied(), PortOfTied(), ids) is None
    found = locate(Tied(), PortOfTied(copies=True), ids)
    assert found is not None and (found.key, found.module) == ("gradient/module.0/embed.weight", "module/embed")
    assert found.traps[0].name == "a weight that is used twice" and "embed.weight, out.weight" in report(found, "x")


class Scaled(nn.Module):
    """A buffer of its own."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("scale", torch.full((4,), 2.0))

    def forward(self, x, ids=None):
        return self.linear(x) * self.scale


class PortOfScaled(linen.Module):
    trained: bool = True

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(4, name="linear")(x)
        return x * (self.param("scale", linen.initializers.ones, (4,)) if self.trained else 2)


def test_a_buffer_that_the_port_trains_or_lacks_is_a_difference():
    for trained, words in ((True, "scale is a buffer in torch, scale is a parameter"), (False, "torch has scale (4,)")):
        found = locate(Scaled(), PortOfScaled(trained), rows())
        assert found is not None and found.key == "tensor/module/scale" and words in found.detail


def test_what_one_framework_alone_has_is_no_difference_and_has_a_reason():
    assert "num_batches_tracked" in names.ONLY_IN_TORCH
    assert all(names.without_counterpart(f"a.b.{name}") for name in (*names.ONLY_IN_TORCH, *names.ONLY_IN_FLAX))
    assert names.without_counterpart("a.b.running_mean") == ""


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.SpectralNorm(linen.Dense(3, name="0"), name="norm")(x, update_stats=False)


def test_spectral_normalisation_of_linen_iterates_in_evaluation():
    module = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))).train()
    with torch.no_grad():
        module[0].parametrizations["weight"].original.add_(torch.randn(3, 4))  # type: ignore[index,operator]
    found = locate(module.eval(), Normed(), rows())
    assert found is not None and (found.key, found.module) == ("forward/module.0/0", "module/0")
    assert "spectral normalisation in evaluation" in [trap.name for trap in found.traps]


def test_values_of_the_users_own_may_have_a_layout_of_their_own():
    """A kernel that is turned by hand, for a transposed convolution without transpose_kernel."""
    module = nn.ConvTranspose2d(4, 6, 4, 2, 1)
    kernel = module.weight.detach().numpy().transpose(2, 3, 0, 1)
    bias = module.bias.detach().numpy()  # type: ignore[union-attr]
    port = linen.ConvTranspose(6, (4, 4), (2, 2), "SAME")
    turned = {"params": {"kernel": kernel[::-1, ::-1].copy(), "bias": bias}}
    assert locate(module, port, IMAGES, turned) is None
    found = locate(module, port, IMAGES, {"params": {"kernel": kernel, "bias": bias}})
    assert found is not None and found.key == "forward/module.0/"
    linear = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
    found = locate(nn.Linear(4, 6), linear, rows(), nnx.state(linear))
    assert found is not None and found.key == "forward/module.0/"


def test_a_port_in_float32_is_held_to_the_rounding_of_float32_with_a_warning():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    tensors = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    for factor, differs in ((1.0, False), (1.0001, True)):
        port = linen.Sequential([linen.Dense(4, dtype=jnp.float32), linen.Dense(2)])
        own = {
            f"layers_{i}": {"kernel": factor * tensors[f"{i}.weight"].T, "bias": tensors[f"{i}.bias"]} for i in (0, 1)
        }
        with pytest.warns(UserWarning, match=r"computes in float32 \(layers_0\): values from there on"):
            assert (locate(module, port, rows(), {"params": own}) is not None) == differs
    with pytest.raises(UserError, match=r"port: found bfloat16 in layers_0, expected float64 or float32"):
        locate(module, linen.Sequential([linen.Dense(4, dtype=jnp.bfloat16), linen.Dense(2)]), rows())


class Conditional(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.linear = nn.Embedding(5, 4), nn.Linear(4, 4)

    def forward(self, latents, labels):
        return self.linear(latents * self.embed(labels))


class PortOfConditional(linen.Module):
    @linen.compact
    def __call__(self, latents, labels):
        return linen.Dense(4, name="linear")(latents * linen.Embed(5, 4, name="embed")(labels))


def test_two_inputs_one_of_them_whole_numbers():
    assert locate(Conditional(), PortOfConditional(), (rows(), np.array([0, 1, 4]))) is None


@pytest.mark.parametrize(
    ("module", "port", "inputs", "message"),
    [
        (
            nn.Linear(4, 4),
            nnx.Linear,
            rows(),
            "port: found the class Linear, expected an instance of flax.linen.Module",
        ),
        (linen.Dense(4), nn.Linear(4, 4), rows(), "original: found a Dense, expected a torch.nn.Module"),
        (nn.Linear(4, 4), linen.Dense(4), rows(5), "original: found RuntimeError: mat1 and mat2 shapes cannot be"),
        (Scaled(), PortOfScaled(), (rows(), rows()), "port: found TypeError: "),
        (nn.LSTM(4, 3), linen.Dense(3), (rows(), None), "inputs: found shape () of type object, expected real"),
        (nn.Linear(4, 4), linen.Dense(4), rows()[:0], "inputs: found shape (0, 4) of type float64, expected real"),
        (nn.Linear(4, 4), linen.Dense(4), [[1.0], [2.0, 3.0]], "inputs: found ValueError: "),
    ],
    ids=["a class", "exchanged", "wrong inputs", "wrong arguments", "not an array", "empty", "ragged"],
)
def test_what_cannot_be_compared_is_refused_in_one_line(module, port, inputs, message):
    with pytest.raises(UserError) as error:
        locate(module, port, inputs)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_option_of_the_call_is_refused_with_the_error_of_flax():
    with pytest.raises(UserError, match=r"port: found TypeError: .*unexpected keyword argument 'training'"):
        locate(nn.Linear(4, 4), linen.Dense(4), rows(), training=True)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_cut_gradient_of_the_input_is_found(kind):
    """It changes no number but those that gradient penalties are made of."""

    class Cut(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3, name="0")(jax.lax.stop_gradient(x))

    class NnxCut(nnx.Module):
        def __init__(self):
            self.layers = nnx.List([nnx.Linear(4, 3, rngs=nnx.Rngs(0))])

        def __call__(self, x):
            return self.layers[0](jax.lax.stop_gradient(x))

    found = locate(nn.Sequential(nn.Linear(4, 3)), Cut() if kind == "linen" else NnxCut(), rows())
    assert found is not None and found.key == "returned/module.0.0/"


def test_of_a_port_that_fails_the_first_misfit_before_is_reported():
    class Fails(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(4, (3, 3), name="0")(x)
            return x.reshape(2, 36)

    found = locate(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten()), Fails(), IMAGES)
    assert found is not None and (found.key, found.module) == ("forward/module.0/0", "module/0")


def test_nothing_of_jax_is_left_changed():
    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    call = nnx.Linear.__call__
    locate(nn.Linear(4, 4), nnx.Linear(4, 4, rngs=nnx.Rngs(0)), rows())
    assert jax.config.jax_enable_x64 == before and nnx.Linear.__call__ is call  # type: ignore[attr-defined]
