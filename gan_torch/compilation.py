"""The step as one graph that torch.compile turns into fused kernels. (JAX compiles its step in any case.)

torch.compile cannot take a gradient's gradient, which penalties need. So the whole training step, optimisers included,
is first recorded below autograd as one graph without gradients; that graph is compiled.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from gan_shared.errors import unexpected
from gan_shared.schedules import ScheduleValues
from gan_torch.examples import StepInputs
from gan_torch.state import State
from gan_torch.step import Step

# (replaced tensors of the state, scalars)
Results: TypeAlias = tuple[dict[str, Tensor], dict[str, Tensor]]
# A step as a function of tensors alone: (tensors of the state by field, inputs, schedule values (7,)) -> results.
Graph: TypeAlias = Callable[[dict[str, Any], StepInputs, Tensor], Results]

NETWORKS = ("generator", "discriminator", "generator_ema", "image_condition_network")
OPTIMIZER_STATES = ("generator_optimizer_state", "discriminator_optimizer_state")
# Tensors of the state that a step replaces; all others it changes in place.
REPLACED = ("augment_probability", "augment_signs", "step", "first_non_finite_step")


class Compiled:
    """A step that is compiled when it is first called. Shapes, types and devices must stay as they are.

    On a GPU it is replayed as a CUDA graph, for which every tensor of a state stays at its place in memory.

    Args:
        step: the step; every scheduled value reaches it as a tensor, so that no schedule compiles anew.

    Raises:
        UserError: there is no C++ compiler, without which torch.compile would stop in the first step.
    """

    def __init__(self, step: Step) -> None:
        from torch._inductor import cpp_builder  # here because it takes a while and few runs compile

        try:
            cpp_builder.get_cpp_compiler()
        except RuntimeError as error:
            raise unexpected(
                "compile", "no C++ compiler", "g++ or clang++ on the PATH, or one that CXX names"
            ) from error
        self._step = step
        self._compiled: Graph | None = None
        self._generator: nn.Module | None = None

    def __call__(
        self, state: State, inputs: StepInputs, schedule_values: ScheduleValues
    ) -> tuple[State, dict[str, Tensor]]:
        tensors, number = _tensors(state), state.augment_probability
        on_gpu = number.device.type == "cuda"
        if self._compiled is None:
            mode = "reduce-overhead" if on_gpu else "default"
            self._compiled = torch.compile(make_graph(self._step, state, inputs), fullgraph=True, mode=mode)
        if on_gpu and state.generator is not self._generator:
            self._generator = state.generator
            _pytree.tree_map_only(Tensor, torch._dynamo.mark_static_address, tensors)
        floats = schedule_tensor(schedule_values, state)
        with torch.no_grad():
            replaced, scalars = self._compiled(tensors, inputs, floats)
            for name, value in replaced.items():
                getattr(state, name).copy_(value)
            # Copies: the next replay of a CUDA graph writes where this one did.
            return state, {name: value.clone() for name, value in scalars.items()}


def make_graph(step: Step, state: State, inputs: StepInputs) -> Graph:
    """Return the graph of a step: (tensors of the state, inputs, schedule values (7,)) -> (replaced tensors, scalars).

    Nothing is computed, and the state stays as it is.
    """
    module = _StepModule(step, state)
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}

    def call(tensors: dict[str, Any], inputs: StepInputs, floats: Tensor) -> Results:
        # Aliases that autograd takes for leaves; what is done to them is done to the tensors.
        leaves = {name: tensor.detach().requires_grad_(name in trained) for name, tensor in tensors["networks"].items()}
        others = {name: tensors[name] for name in (*OPTIMIZER_STATES, *REPLACED)}
        schedule_values: Any = floats.unbind()
        return torch.func.functional_call(module, leaves, (others, inputs, ScheduleValues(*schedule_values)))

    number = state.augment_probability
    return make_fx(call, tracing_mode="fake")(_tensors(state), inputs, number.new_zeros(len(ScheduleValues._fields)))


def schedule_tensor(schedule_values: ScheduleValues, state: State) -> Tensor:
    """Return the scheduled numbers in order, (7,), in the type and on the device of a state."""
    number = state.augment_probability
    floats = torch.tensor(schedule_values, dtype=number.dtype)
    # Only from pinned memory does a GPU copy by itself.
    return floats.pin_memory().to(number.device, non_blocking=True) if number.device.type == "cuda" else floats


class _StepModule(nn.Module):
    """A step as a module, so that its networks can be given other tensors than their own.

    Args:
        step: the step.
        state: where the networks are taken from.
    """

    def __init__(self, step: Step, state: State) -> None:
        super().__init__()
        self.networks = _networks(state)
        self._step, self._state = step, state

    def forward(self, others: dict[str, Any], inputs: StepInputs, schedule_values: ScheduleValues) -> Results:
        state, scalars = self._step(self._state._replace(**others), inputs, schedule_values)
        return {name: getattr(state, name) for name in REPLACED}, scalars


def _networks(state: State) -> nn.ModuleDict:
    """Return those networks of a state that there are."""
    named = {name: getattr(state, name) for name in NETWORKS}
    return nn.ModuleDict({name: network for name, network in named.items() if network is not None})


def _tensors(state: State) -> dict[str, Any]:
    """Return every tensor of a state by name."""
    networks = _networks(state).state_dict(prefix="networks.", keep_vars=True)
    return {"networks": networks, **{name: getattr(state, name) for name in (*OPTIMIZER_STATES, *REPLACED)}}
