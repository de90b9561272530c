"""torch's update rules."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class Moments(NamedTuple):
    """What Adam remembers of one network.

    Attributes:
        exp_avg: decaying average of the gradients, by parameter.
        exp_avg_sq: decaying average of the squared gradients, by parameter.
        step: number of updates done.
    """

    exp_avg: Any
    exp_avg_sq: Any
    step: Array


class Adam(NamedTuple):
    """Adam (Kingma and Ba 2015, algorithm 1) as torch.optim.Adam computes it: epsilon after the bias correction.

    A scheduled beta2 corrects with the current beta2 to the power of the step.

    Attributes:
        beta1: decay of the gradient average.
        epsilon: added to the root of the squared gradient average.
    """

    beta1: float
    epsilon: float = 1e-8

    def init(self, parameters: Any) -> Moments:
        """Return the moments before the first update: zeros."""
        zeros = optax.tree.zeros_like(parameters)
        return Moments(exp_avg=zeros, exp_avg_sq=zeros, step=jnp.zeros((), jnp.int32))

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        """Take one step and return the new parameters and moments; the old ones must not be used again.

        Args:
            parameters: tensors of the network.
            gradients: their gradients.
            moments: what the updates before left.
            learning_rate: step size.
            beta2_complement: 1 - decay of the squared gradient average.
        """
        step, complement = moments.step + 1, jnp.asarray(beta2_complement)
        exp_avg = optax.tree.update_moment(gradients, moments.exp_avg, self.beta1, 1)
        exp_avg_sq = jax.tree.map(lambda v, g: (1 - complement) * v + complement * g * g, moments.exp_avg_sq, gradients)
        # 1 - beta^t, exact in float32 too, where optax loses up to five digits for a beta near 1.
        steps = step.astype(complement.dtype)
        correction1 = -jnp.expm1(steps * math.log(self.beta1)) if self.beta1 else 1.0
        correction2 = jnp.sqrt(-jnp.expm1(steps * jnp.log1p(-complement)))
        updates = jax.tree.map(
            lambda m, v: -(learning_rate / correction1) * m / (jnp.sqrt(v) / correction2 + self.epsilon),
            exp_avg,
            exp_avg_sq,
        )
        return optax.apply_updates(parameters, updates), Moments(exp_avg, exp_avg_sq, step)
