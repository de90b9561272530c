"""torch's update rules."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam


class Moments(NamedTuple):
    """What Adam remembers of one network.

    Attributes:
        exp_avg: decaying average of the gradients, by parameter.
        exp_avg_sq: decaying average of the squared gradients, by parameter.
        step: number of updates done.
    """

    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    step: dict[str, Tensor]


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, algorithm 1) as torch.optim.Adam computes it: epsilon after the bias correction.

    A scheduled beta2 corrects with the current beta2 to the power of the step.

    Attributes:
        beta1: decay of the gradient average.
        epsilon: added to the root of the squared gradient average.
    """

    beta1: float
    epsilon: float = 1e-8

    def init(self, parameters: Mapping[str, Tensor]) -> Moments:
        """Return the moments before the first update: zeros."""
        return Moments(
            exp_avg={name: torch.zeros_like(p) for name, p in parameters.items()},
            exp_avg_sq={name: torch.zeros_like(p) for name, p in parameters.items()},
            step={name: torch.zeros((), dtype=torch.float32, device=p.device) for name, p in parameters.items()},
        )

    @torch.no_grad()
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
            beta2_complement: 1 - decay of the squared gradient average.
        """
        names = list(parameters)
        adam(
            [parameters[name] for name in names],
            [gradients[name] for name in names],
            [moments.exp_avg[name] for name in names],
            [moments.exp_avg_sq[name] for name in names],
            [],
            [moments.step[name] for name in names],
            fused=True,
            amsgrad=False,
            beta1=self.beta1,
            beta2=1.0 - beta2_complement,
            lr=learning_rate,
            weight_decay=0.0,
            eps=self.epsilon,
            maximize=False,
        )
        return parameters, moments
