"""torch's update rules, and one table of them."""

import math
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from gan_shared.config import Config

# What an optimiser remembers of one network: torch's state name (exp_avg, say) -> tree like the parameters.
# "step" is one int32 scalar for all of them.
Moments: TypeAlias = dict[str, Any]


class Optimizer(Protocol):
    """How one network's parameters move: the settings of a rule, which holds no state of its own."""

    def init(self, parameters: Any) -> Moments:
        """Return the moments before the first update: zeros, under the names that torch's optimiser gives them."""
        ...

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

    def init(self, parameters: Any) -> Moments:
        # Zeros of their own for each: a donated buffer must not be given twice.
        return {
            "exp_avg": optax.tree.zeros_like(parameters),
            "exp_avg_sq": optax.tree.zeros_like(parameters),
            "step": jnp.zeros((), jnp.int32),
        }

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        gradients = _penalized(gradients, parameters, self.weight_decay)
        step, complement = moments["step"] + 1, jnp.asarray(beta2_complement)
        exp_avg = optax.tree.update_moment(gradients, moments["exp_avg"], self.beta1, 1)
        exp_avg_sq = _average_of_squares(gradients, moments["exp_avg_sq"], complement)
        # 1 - beta^t, exact in float32 too, where optax loses up to five digits for a beta near 1.
        steps = step.astype(complement.dtype)
        correction1 = -jnp.expm1(steps * math.log(self.beta1)) if self.beta1 else 1.0
        correction2 = jnp.sqrt(-jnp.expm1(steps * jnp.log1p(-complement)))
        updates = jax.tree.map(
            lambda m, v: -(learning_rate / correction1) * m / (jnp.sqrt(v) / correction2 + self.epsilon),
            exp_avg,
            exp_avg_sq,
        )
        moments = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "step": step}
        return optax.apply_updates(parameters, updates), moments


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

    def init(self, parameters: Any) -> Moments:
        return Adam(self.beta1).init(parameters)

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        if self.weight_decay:
            # Subtracted, as in float32 the factor 1 - learning rate * decay loses the digits of a small product.
            parameters = optax.tree.add_scale(parameters, -learning_rate * self.weight_decay, parameters)
        adam = Adam(self.beta1, epsilon=self.epsilon)
        return adam.update(parameters, gradients, moments, learning_rate, beta2_complement)


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

    def init(self, parameters: Any) -> Moments:
        moments = {"square_avg": optax.tree.zeros_like(parameters), "step": jnp.zeros((), jnp.int32)}
        return moments | ({"momentum_buffer": optax.tree.zeros_like(parameters)} if self.beta1 else {})

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        gradients = _penalized(gradients, parameters, self.weight_decay)
        square_avg = _average_of_squares(gradients, moments["square_avg"], beta2_complement)
        scaled = jax.tree.map(lambda g, v: g / (jnp.sqrt(v) + self.epsilon), gradients, square_avg)
        moments = moments | {"square_avg": square_avg, "step": moments["step"] + 1}
        return _descend(parameters, scaled, moments, learning_rate, self.beta1)


class SGD(NamedTuple):
    """Gradient descent as torch.optim.SGD computes it.

    Attributes:
        beta1: torch's momentum: decay of the sum of gradients; 0 keeps none.
        weight_decay: multiple of the parameters that is added to the gradients (an L2 penalty).
    """

    beta1: float
    weight_decay: float = 0.0

    def init(self, parameters: Any) -> Moments:
        return {"momentum_buffer": optax.tree.zeros_like(parameters)} if self.beta1 else {}

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        del beta2_complement  # there are no squared gradients
        gradients = _penalized(gradients, parameters, self.weight_decay)
        return _descend(parameters, gradients, moments, learning_rate, self.beta1)


class Frozen(NamedTuple):
    """No update at all: the network stays as it is, and nothing is remembered."""

    def init(self, parameters: Any) -> Moments:
        del parameters
        return {}

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
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

    def init(self, parameters: Any) -> Moments:
        return self.optimizer.init(parameters)

    def update(
        self,
        parameters: Any,
        gradients: Any,
        moments: Moments,
        learning_rate: Array | float,
        beta2_complement: Array | float,
    ) -> tuple[Any, Moments]:
        # optax's clipping adds no 1e-6.
        scale = jnp.minimum(1.0, self.max_norm / (optax.tree.norm(gradients) + 1e-6))
        scaled = optax.tree.scale(scale, gradients)
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


def _penalized(gradients: Any, parameters: Any, weight_decay: float) -> Any:
    """Add a multiple of the parameters to their gradients: the gradient of an L2 penalty."""
    return optax.tree.add_scale(gradients, weight_decay, parameters) if weight_decay else gradients


def _average_of_squares(gradients: Any, average: Any, complement: Array | float) -> Any:
    """Move the decaying average of the squared gradients, given 1 - its decay."""
    return jax.tree.map(lambda v, g: (1 - complement) * v + complement * g * g, average, gradients)


def _descend(
    parameters: Any, directions: Any, moments: Moments, learning_rate: Array | float, momentum: float
) -> tuple[Any, Moments]:
    """Go down the directions, or down their decaying sum where there is momentum."""
    if momentum:
        directions = optax.tree.add_scale(directions, momentum, moments["momentum_buffer"])
        moments = moments | {"momentum_buffer": directions}
    return optax.apply_updates(parameters, optax.tree.scale(-learning_rate, directions)), moments
