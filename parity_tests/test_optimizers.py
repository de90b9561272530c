"""Every update rule of both backends against torch.optim's class, and the clipping against torch.nn.utils."""

from functools import cache
from inspect import signature
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import gan_jax.optimizers
import gan_torch.optimizers
from gan_shared.config import Config
from parity_tests.pair import assert_close

pytestmark = pytest.mark.fast

TWINS = {"torch": gan_torch.optimizers, "jax": gan_jax.optimizers}
DTYPES = {"torch": (torch.float32, torch.float64), "jax": (jnp.float32, jnp.float64)}
SHAPES = {"kernel": (3, 2), "bias": (4,)}
STEPS = 50
RULES = ["adam", "adamw", "rmsprop", "sgd"]

compilations: list[str] = []


def record_compilation(event: str, duration_secs: float, **kwargs: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        compilations.append(str(kwargs.get("fun_name")))


jax.monitoring.register_event_duration_secs_listener(record_compilation)


def start() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(100)
    return {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}


@cache
def gradients(step: int) -> dict[str, np.ndarray]:
    """Gradients over nine orders of magnitude, with exact zeros; one parameter's is always zero."""
    rng = np.random.default_rng(step)
    drawn = {name: rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 1) for name, shape in SHAPES.items()}
    drawn["bias"][0] = 0.0
    drawn["kernel"][step % 3] = 0.0
    return drawn


def schedule(step: int) -> tuple[float, float]:
    """Learning rate and beta2, both changing on the way."""
    return 2e-3 * 0.97**step, 0.9 if step < 20 else 0.999


class Case(NamedTuple):
    """One optimiser, for either twin and for torch itself."""

    rule: str
    beta1: float  # momentum of rmsprop and sgd
    weight_decay: float = 0.0
    max_norm: float | None = None

    def twin(self, name: str) -> Any:
        optimizer = TWINS[name].OPTIMIZERS[self.rule](self.beta1, self.weight_decay)
        return optimizer if self.max_norm is None else TWINS[name].Clipped(optimizer, self.max_norm)

    def original(self, parameters: Any) -> tuple[torch.optim.Optimizer, Any]:
        """Return torch's own optimiser, and what its groups are given for a learning rate and a beta2."""
        settings: dict[str, Any] = {"params": list(parameters), "lr": 0.0, "weight_decay": self.weight_decay}
        if self.rule == "sgd":
            return torch.optim.SGD(momentum=self.beta1, **settings), lambda rate, beta2: {"lr": rate}
        if self.rule == "rmsprop":
            optimizer = torch.optim.RMSprop(momentum=self.beta1, **settings)
            return optimizer, lambda rate, beta2: {"lr": rate, "alpha": beta2}
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.rule]
        optimizer = kind(betas=(self.beta1, 0.9), **settings)
        return optimizer, lambda rate, beta2: {"lr": rate, "betas": (self.beta1, beta2)}


def reference(case: Case, steps: int) -> dict[str, np.ndarray]:
    """Train with torch's class in float64; return parameters and state, the latter as "parameter.key"."""
    parameters = {n: torch.nn.Parameter(torch.tensor(value)) for n, value in start().items()}
    optimizer, group = case.original(parameters.values())
    for step in range(steps):
        optimizer.param_groups[0].update(group(*schedule(step)))
        for name, gradient in gradients(step).items():
            parameters[name].grad = torch.tensor(gradient)
        if case.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(parameters.values(), case.max_norm)
        optimizer.step()
    named = {f"{n}.{key}": value.numpy() for n, p in parameters.items() for key, value in optimizer.state[p].items()}
    return named | {name: p.detach().numpy() for name, p in parameters.items()}


def in_torch(case: Case, steps: int, dtype: Any) -> dict[str, np.ndarray]:
    optimizer = case.twin("torch")
    parameters = {n: torch.tensor(value, dtype=dtype) for n, value in start().items()}
    optimizer_state = optimizer.init(parameters)
    for step in range(steps):
        rate, beta2 = schedule(step)
        given = {n: torch.tensor(g, dtype=dtype) for n, g in gradients(step).items()}
        found = optimizer.update(parameters, given, optimizer_state, rate, 1 - beta2)
        assert found[0] is parameters and found[1] is optimizer_state  # in place
    named = {f"{n}.{key}": value.numpy() for key, by_name in optimizer_state.items() for n, value in by_name.items()}
    return named | {name: p.numpy() for name, p in parameters.items()}


def in_jax(case: Case, steps: int, dtype: Any) -> dict[str, np.ndarray]:
    optimizer = case.twin("jax")

    def update_under_schedule(*values):
        return optimizer.update(*values)

    update = jax.jit(update_under_schedule, donate_argnums=(0, 2))
    parameters = jax.tree.map(lambda value: jnp.asarray(value, dtype), start())
    optimizer_state = optimizer.init(parameters)
    compilations.clear()
    for step in range(steps):
        rate, beta2 = schedule(step)
        given = jax.tree.map(lambda value: jnp.asarray(value, dtype), gradients(step))
        parameters, optimizer_state = update(
            parameters, given, optimizer_state, jnp.asarray(rate, dtype), jnp.asarray(1 - beta2, dtype)
        )
    assert len([name for name in compilations if update_under_schedule.__name__ in name]) == 1
    if "step" in optimizer_state:
        assert optimizer_state["step"].shape == () and optimizer_state["step"].dtype == jnp.int32
        # As torch has it: one float32 for each parameter.
        optimizer_state = optimizer_state | {
            "step": {name: np.asarray(optimizer_state["step"], np.float32) for name in SHAPES}
        }
    named = {f"{n}.{key}": value for key, by_name in optimizer_state.items() for n, value in by_name.items()}
    return {name: np.asarray(value) for name, value in (named | parameters).items()}


TRAINED = {"torch": in_torch, "jax": in_jax}


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("twin", TWINS)
def test_equals_torch_over_a_schedule(twin, rule, weight_decay, beta1):
    """In JAX under one compilation, whatever the schedules do."""
    expected = reference(Case(rule, beta1, weight_decay), STEPS)
    found = TRAINED[twin](Case(rule, beta1, weight_decay), STEPS, DTYPES[twin][1])
    assert found.keys() == expected.keys()  # the state's names too
    for name, value in expected.items():
        assert_close(found[name], value, 1e-13, name)  # 50 updates of a few roundings each


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("twin", TWINS)
def test_clipped_equals_torch_over_a_schedule(twin, rule):
    """The gradients are clipped before the weight decay is added; their norms lie on both sides of the bound."""
    case = Case(rule, 0.9, 0.01, max_norm=1e-4)
    norms = [np.sqrt(sum((g**2).sum() for g in gradients(step).values())) for step in range(STEPS)]
    assert min(norms) < case.max_norm < max(norms)
    expected, found = reference(case, STEPS), TRAINED[twin](case, STEPS, DTYPES[twin][1])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, 1e-13, name)  # 50 updates of a few roundings each


@pytest.mark.parametrize("kernel", [3.0, 1e-3, 30.0, 0.0, np.inf, np.nan], ids=str)
@pytest.mark.parametrize("twin", TWINS)
def test_clipping_at_and_around_the_bound(twin, kernel):
    """With 4 beside 3 the norm is the bound itself, 5, where torch's 1e-6 still shortens; zeros stay zeros."""
    values = {"kernel": np.array([[kernel, 0.0]]), "bias": np.array([kernel and 4.0])}
    parameters = [torch.nn.Parameter(torch.zeros(value.shape, dtype=torch.float64)) for value in values.values()]
    for parameter, value in zip(parameters, values.values(), strict=True):
        parameter.grad = torch.tensor(value)
    torch.nn.utils.clip_grad_norm_(parameters, 5.0)
    # Of parameters at zero, a step of length 1 leaves the negated gradients that the rule was given.
    array = {"torch": torch.tensor, "jax": jnp.asarray}[twin]
    zeros = {name: array(np.zeros(value.shape)) for name, value in values.items()}
    given = {name: array(value) for name, value in values.items()}
    moved, optimizer_state = TWINS[twin].Clipped(TWINS[twin].SGD(0.0), 5.0).update(zeros, given, {}, 1.0, 0.1)
    assert optimizer_state == {}
    for name, parameter in zip(values, parameters, strict=True):
        # A sum of squares, a root, a quotient, a product: 1e-16 each; infinities and NaN where torch has them.
        np.testing.assert_allclose(-np.asarray(moved[name]), np.asarray(parameter.grad), rtol=1e-15, atol=0)
        np.testing.assert_array_equal(np.asarray(given[name]), values[name])  # the caller's are not touched


@pytest.mark.parametrize("twin", TWINS)
def test_frozen_changes_nothing(twin):
    array = {"torch": torch.tensor, "jax": jnp.asarray}[twin]
    frozen = TWINS[twin].Frozen()
    parameters = {name: array(value) for name, value in start().items()}
    optimizer_state = frozen.init(parameters)
    assert optimizer_state == {}
    given = {name: array(value) for name, value in gradients(0).items()}
    found, optimizer_state = frozen.update(parameters, given, optimizer_state, 1.0, 0.1)
    assert optimizer_state == {} and found.keys() == parameters.keys()
    for name, value in start().items():
        np.testing.assert_array_equal(np.asarray(found[name]), value)


@pytest.mark.parametrize("freeze", ["none", "generator", "discriminator"])
@pytest.mark.parametrize("gradient_clip", [0.0, 2.5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("twin", TWINS)
def test_build_optimizer(twin, rule, gradient_clip, freeze):
    backend = TWINS[twin]
    other = RULES[RULES.index(rule) - 1]
    own = {name: "beta1" if name.startswith("adam") else "momentum" for name in RULES}
    config = Config().with_values(
        {
            "generator_optimizer": rule,
            "discriminator_optimizer": other,
            f"generator_{own[rule]}": 0.25,
            f"discriminator_{own[other]}": 0.75,
            "generator_weight_decay": 0.125,
            "discriminator_weight_decay": 0.125,
            "gradient_clip": gradient_clip,
            "freeze": freeze,
        }
    )
    classes = {"adam": backend.Adam, "adamw": backend.AdamW, "rmsprop": backend.RMSprop, "sgd": backend.SGD}
    for network, name, beta1 in (("generator", rule, 0.25), ("discriminator", other, 0.75)):
        expected = classes[name](beta1, 0.125)
        if gradient_clip:
            expected = backend.Clipped(expected, gradient_clip)
        if freeze == network:
            expected = backend.Frozen()
        found = backend.build_optimizer(config, network)
        # Tuples are equal whatever their class and the names of their fields.
        assert type(found) is type(expected) and found == expected
        if isinstance(found, backend.Clipped):
            assert type(found.optimizer) is classes[name]


@pytest.mark.parametrize("twin", TWINS)
def test_each_rule_has_its_own_hyperparameters_by_the_names_of_torch(twin):
    """``betas`` of torch's Adam are beta1 here and a scheduled beta2, alpha of its RMSprop is scheduled too."""
    originals = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    originals["sgd"] = torch.optim.SGD
    for rule, kind in TWINS[twin].OPTIMIZERS.items():
        torch_names = {
            {"momentum": "momentum", "weight_decay": "weight_decay", "eps": "epsilon", "betas": "beta1"}.get(name)
            for name in signature(originals[rule]).parameters
        }
        assert set(kind._fields) == torch_names - {None}, rule


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("twin", TWINS)
def test_state_begins_at_zero_under_the_names_of_torch(twin, rule, beta1):
    make = {"torch": torch.ones, "jax": jnp.ones}[twin]
    optimizer_state = Case(rule, beta1).twin(twin).init({name: make(shape) for name, shape in SHAPES.items()})
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    optimizer, _ = Case(rule, beta1).original([parameter])
    optimizer.step()
    assert optimizer_state.keys() == optimizer.state[parameter].keys()
    for tree in optimizer_state.values():
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))
    for key in optimizer_state.keys() - {"step"}:
        assert {name: tuple(value.shape) for name, value in optimizer_state[key].items()} == SHAPES


@pytest.mark.parametrize("beta1", [0.0, 0.5])
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("twin", TWINS)
def test_first_float32_update_keeps_its_digits(twin, rule, weight_decay, beta1):
    """A bias correction formed as 1 - 0.999 in float32 is off by 1e-5; nothing here needs to lose that."""
    case = Case(rule, beta1, weight_decay)
    exact, found, begin = reference(case, 1), TRAINED[twin](case, 1, DTYPES[twin][0]), start()
    for name, value in exact.items():
        if name in SHAPES:
            # Three float32 roundings next to the parameter: as it is given, after its decay, after its update.
            allowed = 3 * 6e-8 * np.abs(begin[name]).max()
            assert np.abs(found[name].astype(np.float64) - value).max() <= allowed, name
        else:
            # Roundings of parameter, gradient, penalty, square, root and quotient: 6e-8 each.
            assert_close(found[name].astype(np.float64), value.astype(np.float64), 4e-7, name)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9, 0.999])
def test_float32_bias_correction_at_betas_near_one(beta1):
    """From zero parameters the float32 update itself shows: within a few float32 roundings of the exact one."""
    gradient, rate = np.array([0.3, -2.0, 1e-4]), 2e-4
    adam = gan_jax.optimizers.Adam(beta1)
    parameters = {"w": jnp.zeros(3, jnp.float32)}
    optimizer_state = adam.init(parameters)
    values = (jnp.asarray(rate, jnp.float32), jnp.asarray(1 - 0.999, jnp.float32))
    for _ in range(3):
        parameters, optimizer_state = adam.update(
            parameters, {"w": jnp.asarray(gradient, jnp.float32)}, optimizer_state, *values
        )
    # A constant gradient g moves every weight by rate * g / (|g| + epsilon) in each step.
    exact = -3 * rate * gradient / (np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(np.asarray(parameters["w"], np.float64), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layout", ["contiguous", "expanded"])
@pytest.mark.parametrize("rule", RULES)
def test_torch_takes_gradients_in_any_memory_order(rule, layout):
    """torch's fused rules for the CPU read a contiguous gradient of a channels-last kernel in the wrong order."""
    rng = np.random.default_rng(0)
    kernel, gradient = (torch.tensor(rng.standard_normal((4, 3, 2, 2))) for _ in range(2))
    gradient = gradient if layout == "contiguous" else gradient[:1].expand(4, 3, 2, 2)
    moved = []
    for given in (gradient, gradient.clone(memory_format=torch.channels_last)):
        parameters = {"w": kernel.clone(memory_format=torch.channels_last)}
        optimizer = Case(rule, 0.5).twin("torch")
        optimizer.update(parameters, {"w": given}, optimizer.init(parameters), 1e-2, 0.1)
        moved.append(parameters["w"].numpy())
    np.testing.assert_array_equal(*moved)
