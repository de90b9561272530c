"""torch's update rules, and one table of them."""

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from gan_shared.config import Config

# What an optimiser remembers of one network: torch's state name (exp_avg, say) -> parameter name -> tensor.
Moments: TypeAlias = dict[str, dict[str, Tensor]]


class Optimizer(Protocol):
    """How one network's parameters move: the settings of a rule, which holds no state of its own."""

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        """Return the moments before the first update: zeros, under the names that torch's optimiser gives them."""
        ...

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        """Take one step and return the new parameters and moments; the old ones must not be used again.

        Args:
            parameters: tensors of the network.
            gradients: their gradients.
            moments: what the updates before left.
            learning_rate: step size.
            beta2_complement: 1 - decay of the squared gradient average, for the rules that keep one.
        """
        ...


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, algorithm 1) as torch.optim.Adam computes it: epsilon after the bias correction.

    A scheduled beta2 corrects with the current beta2 to the power of the step.

    Attributes:
        beta1: decay of the gradient average.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
        epsilon: added to the root of the squared gradient average.
    """

    beta1: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        return {"exp_avg": _zeros(parameters), "exp_avg_sq": _zeros(parameters), "step": _no_steps(parameters)}

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        _adam(self, parameters, gradients, moments, learning_rate, beta2_complement, decoupled_weight_decay=False)
        return parameters, moments


class AdamW(NamedTuple):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) as torch.optim.AdamW computes it.

    Attributes:
        beta1: decay of the gradient average.
        weight_decay: share of the parameters, times the learning rate, that each update first takes away.
        epsilon: added to the root of the squared gradient average.
    """

    beta1: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        return Adam(self.beta1).init(parameters)

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        _adam(self, parameters, gradients, moments, learning_rate, beta2_complement, decoupled_weight_decay=True)
        return parameters, moments


class RMSprop(NamedTuple):
    """RMSprop (Tieleman and Hinton 2012) as torch.optim.RMSprop computes it: no bias correction.

    Attributes:
        beta1: torch's momentum: decay of the sum of scaled gradients; 0 keeps none.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
        epsilon: added to the root of the squared gradient average, whose decay (torch's alpha) is beta2.
    """

    beta1: float
    weight_decay: float = 0.0
    epsilon: float = 1e-8

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        moments = {"square_avg": _zeros(parameters), "step": _no_steps(parameters)}
        return moments | ({"momentum_buffer": _zeros(parameters)} if self.beta1 else {})

    @torch.no_grad()
    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        rmsprop(
            list(parameters.values()),
            _listed(gradients, parameters),
            _listed(moments["square_avg"], parameters),
            [],
            _listed(moments["momentum_buffer"], parameters) if self.beta1 else [],
            _listed(moments["step"], parameters),
            lr=learning_rate,
            alpha=1.0 - beta2_complement,
            eps=self.epsilon,
            weight_decay=self.weight_decay,
            momentum=self.beta1,
            centered=False,
        )
        return parameters, moments


class SGD(NamedTuple):
    """Gradient descent as torch.optim.SGD computes it.

    Attributes:
        beta1: torch's momentum: decay of the sum of gradients; 0 keeps none.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
    """

    beta1: float
    weight_decay: float = 0.0

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        return {"momentum_buffer": _zeros(parameters)} if self.beta1 else {}

    @torch.no_grad()
    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        del beta2_complement  # there are no squared gradients
        buffers: list[Tensor | None] = [moments["momentum_buffer"][name] for name in parameters] if self.beta1 else []
        sgd(
            list(parameters.values()),
            _ordered(gradients, parameters),
            buffers,
            fused=True,
            weight_decay=self.weight_decay,
            momentum=self.beta1,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        return parameters, moments


class Frozen(NamedTuple):
    """No update at all: the network stays as it is, and nothing is remembered."""

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        del parameters
        return {}

    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        del gradients, learning_rate, beta2_complement
        return parameters, moments


class Clipped(NamedTuple):
    """An optimiser that sees gradients of bounded norm (torch.nn.utils.clip_grad_norm_).

    All gradients of the network are scaled together by min(1, max_norm / (norm + 1e-6)).

    Attributes:
        optimizer: the rule that takes the scaled gradients.
        max_norm: largest Euclidean norm of all gradients together.
    """

    optimizer: Optimizer
    max_norm: float

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        return self.optimizer.init(parameters)

    @torch.no_grad()
    def update(
        self,
        parameters: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        moments: Moments,
        learning_rate: float,
        beta2_complement: float,
    ) -> tuple[Mapping[str, Tensor], Moments]:
        norm = torch.nn.utils.get_total_norm(list(gradients.values()))
        scale = (self.max_norm / (norm + 1e-6)).clamp(max=1.0)  # stays on the device
        scaled = {name: gradient * scale for name, gradient in gradients.items()}
        return self.optimizer.update(parameters, scaled, moments, learning_rate, beta2_complement)


OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "rmsprop": RMSprop, "sgd": SGD}


def find(config: Config, network: str) -> Optimizer:
    """Build the optimiser that ``config`` names for a network.

    Args:
        config: the run.
        network: "generator" or "discriminator".
    """
    if config.freeze == network:
        return Frozen()
    beta1 = getattr(config, f"{network}_beta1")
    optimizer = OPTIMIZERS[getattr(config, f"{network}_optimizer")](beta1, config.weight_decay)
    return Clipped(optimizer, config.gradient_clip) if config.gradient_clip else optimizer


@torch.no_grad()
def _adam(
    rule: Adam | AdamW,
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    moments: Moments,
    learning_rate: float,
    beta2_complement: float,
    *,
    decoupled_weight_decay: bool,
) -> None:
    """Take one step of Adam in place; the two kinds of it differ in what their weight decay means."""
    if isinstance(beta2_complement, Tensor):
        for name, parameter in parameters.items():
            of_one = {key: by_name[name] for key, by_name in moments.items()}
            decay = learning_rate * rule.weight_decay if decoupled_weight_decay else 0.0
            gradient = gradients[name] if decoupled_weight_decay else gradients[name] + rule.weight_decay * parameter
            _adam_in_tensors(rule, parameter.mul_(1 - decay), gradient, of_one, learning_rate, beta2_complement)
        return
    adam(
        list(parameters.values()),
        _ordered(gradients, parameters),
        _listed(moments["exp_avg"], parameters),
        _listed(moments["exp_avg_sq"], parameters),
        [],
        _listed(moments["step"], parameters),
        fused=True,
        decoupled_weight_decay=decoupled_weight_decay,
        amsgrad=False,
        beta1=rule.beta1,
        beta2=1.0 - beta2_complement,
        lr=learning_rate,
        weight_decay=rule.weight_decay,
        eps=rule.epsilon,
        maximize=False,
    )


def _adam_in_tensors(
    rule: Adam | AdamW,
    parameter: Tensor,
    gradient: Tensor,
    moments: dict[str, Tensor],
    learning_rate: float,
    beta2_complement: Tensor,
) -> None:
    """Take one step for one tensor: for a compiled step, whose beta2 torch's own rules cannot take as a tensor."""
    steps = moments["step"].add_(1).to(gradient.dtype)
    average = moments["exp_avg"].lerp_(gradient, 1 - rule.beta1)
    squares = moments["exp_avg_sq"].lerp_(gradient.square(), beta2_complement)
    correction1 = -torch.expm1(steps * math.log(rule.beta1)) if rule.beta1 else 1.0
    correction2 = (-torch.expm1(steps * torch.log1p(-beta2_complement))).sqrt()
    parameter.sub_(learning_rate / correction1 * average / (squares.sqrt() / correction2 + rule.epsilon))


def _zeros(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a zero tensor like each parameter, in the same memory order."""
    return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}


def _no_steps(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a count of zero updates for each parameter, in torch's type and beside it on its device."""
    return {name: torch.zeros((), dtype=torch.float32, device=p.device) for name, p in parameters.items()}


def _listed(tensors: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """List named tensors in the order of the parameters."""
    return [tensors[name] for name in parameters]


def _ordered(gradients: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """List gradients in the order of the parameters, each in its parameter's memory order.

    The fused rules walk through memory, and those for the CPU do not check that it is ordered alike.
    torch.autograd.grad promises no order: it may give a contiguous gradient of a channels-last kernel.
    """
    return [
        gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
        for gradient, parameter in zip(_listed(gradients, parameters), parameters.values(), strict=True)
    ]
