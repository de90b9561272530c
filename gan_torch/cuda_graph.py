"""The step as a CUDA graph: replayed by one call instead of launched kernel by kernel. (XLA does so by itself.)

It pays where the kernels of a step take less time than Python takes to launch them. Nothing is compiled.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from gan_shared.config import Config
from gan_shared.errors import unexpected
from gan_shared.schedules import ScheduleValues, constant_values
from gan_torch.compilation import REPLACED, schedule_tensor
from gan_torch.examples import StepInputs
from gan_torch.state import State
from gan_torch.step import Step

# Steps that run as they are before one is captured: libraries allocate and choose their kernels in the first ones.
WARM_UP = 3


class Captured:
    """A step that is captured as a CUDA graph at the fourth call with a state, and replayed from then on.

    Shapes and types must stay as they are, and every tensor of a state at its place in memory.

    Args:
        step: the step; a scheduled value that changes reaches it as a tensor, which a replay reads anew.
        config: the run.
        device: where it runs.

    Raises:
        UserError: the device is no GPU.
    """

    def __init__(self, step: Step, config: Config, device: torch.device) -> None:
        if device.type != "cuda":
            raise unexpected("cuda_graph", True, "False, as this run computes on no GPU")
        self._step, self._constants = step, constant_values(config)
        self._generator: nn.Module | None = None
        self._calls = 0

    def __call__(
        self, state: State, inputs: StepInputs, schedule_values: ScheduleValues
    ) -> tuple[State, dict[str, Tensor]]:
        floats = schedule_tensor(schedule_values, state)
        if state.generator is not self._generator:  # another state, whose tensors lie elsewhere
            self._generator, self._calls, self._stream = state.generator, 0, torch.cuda.Stream()
        self._calls += 1
        if self._calls <= WARM_UP:
            # On the stream of the capture: libraries prepare themselves for each stream.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                scalars = step_in_place(self._step, state, inputs, floats, self._constants)
            torch.cuda.current_stream().wait_stream(self._stream)
            return state, scalars
        if self._calls == WARM_UP + 1:
            self._given = held, values = _pytree.tree_map_only(Tensor, torch.clone, (inputs, floats))
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._scalars = step_in_place(self._step, state, held, values, self._constants)
        leaves = zip(_pytree.tree_leaves(self._given), _pytree.tree_leaves((inputs, floats)), strict=True)
        for captured, given in leaves:
            if captured is not None:
                captured.copy_(given)
        self._graph.replay()
        # Copies: the next replay writes where this one did.
        return state, {name: value.clone() for name, value in self._scalars.items()}


def step_in_place(
    step: Step, state: State, inputs: StepInputs, floats: Tensor, constants: Mapping[str, float]
) -> dict[str, Tensor]:
    """Take one step that leaves every tensor of the state at its place in memory, and return the scalars.

    Args:
        step: the step.
        state: is changed.
        inputs: of the step.
        floats: the schedule values in order, (7,).
        constants: by name those that never change, which the step is given as numbers: a fused update takes no tensor
            for its decay.
    """
    values = ScheduleValues(*floats.unbind())._replace(**constants)  # pyright: ignore[reportArgumentType]
    after, scalars = step(state, inputs, values)
    with torch.no_grad():
        for name in REPLACED:
            getattr(state, name).copy_(getattr(after, name))
    return scalars
