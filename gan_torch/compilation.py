"""The step as one graph that torch.compile turns into fused kernels. (JAX compiles its step in any case.)

torch.compile cannot take a gradient's gradient, which penalties need. So the whole game, optimisers included, is
first traced below autograd into one graph without gradients; that graph is compiled.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from gan_shared.errors import unexpected
from gan_shared.schedules import Knobs
from gan_torch.state import State
from gan_torch.step import StepInputs

Step = Callable[[State, StepInputs, Knobs], tuple[State, dict[str, Tensor]]]

NETWORKS = ("generator", "discriminator", "generator_ema", "vgg")
MOMENTS = ("generator_moments", "discriminator_moments")
# Tensors of the state that a step replaces; all others it changes in place.
REPLACED = ("augment_probability", "augment_signs", "step", "first_non_finite_step")


class Compiled:
    """A step that is traced and compiled when it is first called. Shapes, types and devices must stay as they are.

    On a GPU it is replayed as a CUDA graph, for which every tensor of a state stays at its place in memory.

    Args:
        step: the step; every knob reaches it as a tensor, so that no schedule compiles anew.

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
        self._compiled: Callable[..., Any] | None = None
        self._generator: nn.Module | None = None

    def __call__(self, state: State, inputs: StepInputs, knobs: Knobs) -> tuple[State, dict[str, Tensor]]:
        tensors, number = _tensors(state), state.augment_probability
        on_gpu = number.device.type == "cuda"
        if self._compiled is None:
            mode = "reduce-overhead" if on_gpu else "default"
            self._compiled = torch.compile(trace(self._step, state, inputs), fullgraph=True, mode=mode)
        if on_gpu and state.generator is not self._generator:
            self._generator = state.generator
            _pytree.tree_map_only(Tensor, torch._dynamo.mark_static_address, tensors)
        floats = torch.tensor(knobs, dtype=number.dtype).to(number.device, non_blocking=True)
        with torch.no_grad():
            replaced, scalars = self._compiled(tensors, inputs, floats)
            for name, value in replaced.items():
                getattr(state, name).copy_(value)
            # Copies: the next replay of a CUDA graph writes where this one did.
            return state, {name: value.clone() for name, value in scalars.items()}


def trace(step: Step, state: State, inputs: StepInputs) -> Callable[..., Any]:
    """Return the graph of a step: (tensors of the state, inputs, knobs (7,)) -> (replaced tensors, scalars).

    Nothing is computed, and the state stays as it is.
    """
    game = _Game(step, state)
    trained = {name for name, parameter in game.named_parameters() if parameter.requires_grad}

    def play(tensors: dict[str, Any], inputs: StepInputs, floats: Tensor) -> Any:
        # Aliases that autograd takes for leaves; what is done to them is done to the tensors.
        leaves = {name: tensor.detach().requires_grad_(name in trained) for name, tensor in tensors["networks"].items()}
        others = {name: tensors[name] for name in (*MOMENTS, *REPLACED)}
        knobs: Any = floats.unbind()
        return torch.func.functional_call(game, leaves, (others, inputs, Knobs(*knobs)))

    number = state.augment_probability
    return make_fx(play, tracing_mode="fake")(_tensors(state), inputs, number.new_zeros(len(Knobs._fields)))


class _Game(nn.Module):
    """A step as a module, so that its networks can be given other tensors than their own.

    Args:
        step: the step.
        state: where the networks are taken from.
    """

    def __init__(self, step: Step, state: State) -> None:
        super().__init__()
        self.networks = _networks(state)
        self._step, self._state = step, state

    def forward(self, others: dict[str, Any], inputs: StepInputs, knobs: Knobs) -> Any:
        state, scalars = self._step(self._state._replace(**others), inputs, knobs)
        return {name: getattr(state, name) for name in REPLACED}, scalars


def _networks(state: State) -> nn.ModuleDict:
    """Return those networks of a state that there are."""
    named = {name: getattr(state, name) for name in NETWORKS}
    return nn.ModuleDict({name: network for name, network in named.items() if network is not None})


def _tensors(state: State) -> dict[str, Any]:
    """Return every tensor of a state by name."""
    networks = _networks(state).state_dict(prefix="networks.", keep_vars=True)
    return {"networks": networks, **{name: getattr(state, name) for name in (*MOMENTS, *REPLACED)}}
