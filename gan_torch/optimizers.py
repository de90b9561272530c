"""torch's update rules, and one table of them."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from gan_shared.config import Config

# The parameters of one network, or their gradients, by name.
Parameters: TypeAlias = Mapping[str, Tensor]
# What an optimiser keeps of one network between updates: torch's name (exp_avg, say) -> parameter name -> tensor.
OptimizerState: TypeAlias = dict[str, dict[str, Tensor]]


class Optimizer(Protocol):
    """An update rule with its constant hyperparameters; it holds no state of its own."""

    def init(self, parameters: Parameters) -> OptimizerState:
        """Return the state before the first update: zeros, under the names that torch's optimiser gives them."""
        ...

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        """Take one step and return the new parameters and state; the old ones must not be used again.

        Args:
            parameters: tensors of the network.
            gradients: their gradients.
            optimizer_state: what the updates before left.
            learning_rate: step size.
            square_decay_complement: 1 - decay of the average of squared gradients, for the rules that keep one: 1 -
                beta2 of Adam and AdamW, 1 - alpha of RMSprop.
        """
        ...


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, algorithm 1), equivalent to torch.optim.Adam: epsilon after the bias correction.

    Update t of parameters p with gradients g, which weight decay has added to before, and c = square_decay_complement:

        m = beta1 m + (1 - beta1) g
        v = (1 - c) v + c g^2
        b1 = 1 - beta1^t = -expm1(t log(beta1)),    b2 = 1 - (1 - c)^t = -expm1(t log1p(-c))
        p = p - learning_rate (m / b1) / (sqrt(v) / sqrt(b2) + epsilon)

    By expm1 the bias corrections b1 and b2 keep their digits in float32, where 1 - beta^t loses up to five for a beta
    near 1. A scheduled beta2 corrects with its current value to the power of t.

    Attributes:
        beta1: decay of the average of gradients (exp_avg, m).
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
        epsilon: added to the root of the average of squared gradients (exp_avg_sq, v).
    """

    beta1: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Parameters) -> OptimizerState:
        return {"exp_avg": _zeros(parameters), "exp_avg_sq": _zeros(parameters), "step": _no_steps(parameters)}

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        _adam(
            self,
            parameters,
            gradients,
            optimizer_state,
            learning_rate,
            square_decay_complement,
            decoupled_weight_decay=False,
        )
        return parameters, optimizer_state


class AdamW(NamedTuple):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), equivalent to torch.optim.AdamW.

        p = p - learning_rate weight_decay p,    then Adam's update by the gradients alone

    Attributes:
        beta1: decay of the average of gradients.
        weight_decay: share of the parameters, times the learning rate, that each update first takes away.
        epsilon: added to the root of the average of squared gradients.
    """

    beta1: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Parameters) -> OptimizerState:
        return Adam(self.beta1).init(parameters)

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        _adam(
            self,
            parameters,
            gradients,
            optimizer_state,
            learning_rate,
            square_decay_complement,
            decoupled_weight_decay=True,
        )
        return parameters, optimizer_state


class RMSprop(NamedTuple):
    """RMSprop (Tieleman and Hinton 2012), equivalent to torch.optim.RMSprop: no bias correction.

    With c = square_decay_complement = 1 - alpha:

        v = (1 - c) v + c g^2
        b = momentum b + g / (sqrt(v) + epsilon)
        p = p - learning_rate b

    Attributes:
        momentum: decay of the sum of scaled gradients (momentum_buffer, b); 0 keeps none.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
        epsilon: added to the root of the average of squared gradients (square_avg, v).
    """

    momentum: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Parameters) -> OptimizerState:
        optimizer_state = {"square_avg": _zeros(parameters), "step": _no_steps(parameters)}
        return optimizer_state | ({"momentum_buffer": _zeros(parameters)} if self.momentum else {})

    @torch.no_grad()
    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        rmsprop(
            list(parameters.values()),
            _listed(gradients, parameters),
            _listed(optimizer_state["square_avg"], parameters),
            [],
            _listed(optimizer_state["momentum_buffer"], parameters) if self.momentum else [],
            _listed(optimizer_state["step"], parameters),
            lr=learning_rate,
            alpha=1.0 - square_decay_complement,  # pyright: ignore[reportArgumentType] (a tensor in a compiled step)
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            centered=False,
        )
        return parameters, optimizer_state


class SGD(NamedTuple):
    """Gradient descent, equivalent to torch.optim.SGD without dampening and Nesterov momentum.

        b = momentum b + g
        p = p - learning_rate b

    Attributes:
        momentum: decay of the sum of gradients (momentum_buffer, b); 0 keeps none.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
    """

    momentum: float
    weight_decay: float = 0.0

    def init(self, parameters: Parameters) -> OptimizerState:
        return {"momentum_buffer": _zeros(parameters)} if self.momentum else {}

    @torch.no_grad()
    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        del square_decay_complement  # there are no squared gradients
        buffers: list[Tensor | None] = (
            [*_in_memory_order(_listed(optimizer_state["momentum_buffer"], parameters))] if self.momentum else []
        )
        sgd(
            _in_memory_order(parameters.values()),
            _in_memory_order(_ordered(gradients, parameters)),
            buffers,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        return parameters, optimizer_state


class Frozen(NamedTuple):
    """No update at all: the network stays as it is, and the state is empty."""

    def init(self, parameters: Parameters) -> OptimizerState:
        del parameters
        return {}

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        del gradients, learning_rate, square_decay_complement
        return parameters, optimizer_state


class Clipped(NamedTuple):
    """An optimiser behind gradient clipping, equivalent to torch.nn.utils.clip_grad_norm_ before its step.

    All gradients of the network are scaled together: g = g min(1, max_norm / (norm + 1e-6)).

    Attributes:
        optimizer: the rule that takes the scaled gradients.
        max_norm: largest Euclidean norm of all gradients together.
    """

    optimizer: Optimizer
    max_norm: float

    def init(self, parameters: Parameters) -> OptimizerState:
        return self.optimizer.init(parameters)

    @torch.no_grad()
    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Tensor | float,
        square_decay_complement: Tensor | float,
    ) -> tuple[Parameters, OptimizerState]:
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)  # stays on the device
        scaled = {name: gradient * scale for name, gradient in gradients.items()}
        return self.optimizer.update(parameters, scaled, optimizer_state, learning_rate, square_decay_complement)


OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD}


def build_optimizer(config: Config, network: str) -> Optimizer:
    """Build the optimiser that ``config`` names for a network.

    Args:
        config: the run.
        network: "generator" or "discriminator".
    """
    if config.objective.freeze == network:
        return Frozen()
    chosen = config.optimizer(network)
    return clipped(config, OPTIMIZERS[chosen.optimizer](**chosen.constants()))


def clipped(config: Config, optimizer: Optimizer) -> Optimizer:
    """Return the optimiser behind gradient clipping where ``config`` asks for that."""
    return Clipped(optimizer, config.training.gradient_clip) if config.training.gradient_clip else optimizer


@torch.no_grad()
def _adam(
    rule: Adam | AdamW,
    parameters: Parameters,
    gradients: Parameters,
    optimizer_state: OptimizerState,
    learning_rate: Tensor | float,
    square_decay_complement: Tensor | float,
    *,
    decoupled_weight_decay: bool,
) -> None:
    """Take one step of Adam in place; the two kinds of it differ in what their weight decay means."""
    if isinstance(square_decay_complement, Tensor):
        for name, parameter in parameters.items():
            of_one = {key: by_name[name] for key, by_name in optimizer_state.items()}
            gradient = gradients[name]
            if rule.weight_decay and decoupled_weight_decay:
                parameter.mul_(1 - learning_rate * rule.weight_decay)
            elif rule.weight_decay:
                gradient = gradient + rule.weight_decay * parameter
            _adam_in_tensors(rule, parameter, gradient, of_one, learning_rate, square_decay_complement)
        return
    adam(
        _in_memory_order(parameters.values()),
        _in_memory_order(_ordered(gradients, parameters)),
        _in_memory_order(_listed(optimizer_state["exp_avg"], parameters)),
        _in_memory_order(_listed(optimizer_state["exp_avg_sq"], parameters)),
        [],
        _listed(optimizer_state["step"], parameters),
        fused=True,
        decoupled_weight_decay=decoupled_weight_decay,
        amsgrad=False,
        beta1=rule.beta1,
        beta2=1.0 - square_decay_complement,
        lr=learning_rate,
        weight_decay=rule.weight_decay,
        eps=rule.epsilon,
        maximize=False,
    )


def _adam_in_tensors(
    rule: Adam | AdamW,
    parameter: Tensor,
    gradient: Tensor,
    optimizer_state: dict[str, Tensor],
    learning_rate: Tensor | float,
    square_decay_complement: Tensor,
) -> None:
    """Take one step for one tensor: for a compiled step, whose beta2 torch's own rules cannot take as a tensor."""
    steps = optimizer_state["step"].add_(1).to(gradient.dtype)
    average = optimizer_state["exp_avg"].lerp_(gradient, 1 - rule.beta1)
    squares = optimizer_state["exp_avg_sq"].lerp_(gradient.square(), square_decay_complement)
    correction1 = -torch.expm1(steps * math.log(rule.beta1)) if rule.beta1 else 1.0
    correction2 = (-torch.expm1(steps * torch.log1p(-square_decay_complement))).sqrt()
    parameter.sub_(learning_rate / correction1 * average / (squares.sqrt() / correction2 + rule.epsilon))


def _zeros(parameters: Parameters) -> dict[str, Tensor]:
    """Return a zero tensor like each parameter, in the same memory order."""
    return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}


def _no_steps(parameters: Parameters) -> dict[str, Tensor]:
    """Return a count of zero updates for each parameter, in torch's type and beside it on its device."""
    return {name: torch.zeros((), dtype=torch.float32, device=p.device) for name, p in parameters.items()}


def _listed(tensors: Parameters, parameters: Parameters) -> list[Tensor]:
    """List named tensors in the order of the parameters."""
    return [tensors[name] for name in parameters]


def _ordered(gradients: Parameters, parameters: Parameters) -> list[Tensor]:
    """List gradients in the order of the parameters, each in its parameter's memory order.

    The fused rules walk through memory, and those for the CPU do not check that it is ordered alike.
    torch.autograd.grad promises no order: it may give a contiguous gradient of a channels-last kernel.
    """
    return [
        gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
        for gradient, parameter in zip(_listed(gradients, parameters), parameters.values(), strict=True)
    ]


def _in_memory_order(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return views of tensors that are contiguous or channels-last whose axes lie as in memory: all contiguous.

    On a CPU the fused rules copy what is not contiguous, and do nothing with the copy.
    """
    return [tensor if tensor.is_contiguous() else tensor.movedim(1, -1) for tensor in tensors]
