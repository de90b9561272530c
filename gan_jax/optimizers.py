"""torch's update rules, and one table of them."""

import math
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from gan_shared.config import Config

# The parameters of one network, or their gradients: nested dictionaries of arrays.
Parameters: TypeAlias = dict[str, Any]
# What an optimiser keeps of one network between updates: torch's name (exp_avg, say) -> tree like the parameters.
# "step" is one int32 scalar for all of them.
OptimizerState: TypeAlias = dict[str, Any]


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
        learning_rate: Array | float,
        square_decay_complement: Array | float,
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
        # Zeros of their own for each: a donated buffer must not be given twice.
        return {
            "exp_avg": optax.tree.zeros_like(parameters),
            "exp_avg_sq": optax.tree.zeros_like(parameters),
            "step": jnp.zeros((), jnp.int32),
        }

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, OptimizerState]:
        gradients = _penalized(gradients, parameters, self.weight_decay)
        step, complement = optimizer_state["step"] + 1, jnp.asarray(square_decay_complement)
        exp_avg = optax.tree.update_moment(gradients, optimizer_state["exp_avg"], self.beta1, 1)
        exp_avg_sq = _average_of_squares(gradients, optimizer_state["exp_avg_sq"], complement)
        # 1 - beta^t, exact in float32 too, where optax loses up to five digits for a beta near 1.
        steps = step.astype(complement.dtype)
        correction1 = -jnp.expm1(steps * math.log(self.beta1)) if self.beta1 else 1.0
        correction2 = jnp.sqrt(-jnp.expm1(steps * jnp.log1p(-complement)))
        updates = jax.tree.map(
            lambda m, v: -(learning_rate / correction1) * m / (jnp.sqrt(v) / correction2 + self.epsilon),
            exp_avg,
            exp_avg_sq,
        )
        optimizer_state = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "step": step}
        moved: Any = optax.apply_updates(parameters, updates)
        return moved, optimizer_state


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
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, OptimizerState]:
        if self.weight_decay:
            # Subtracted, as in float32 the factor 1 - learning rate * decay loses the digits of a small product.
            parameters = optax.tree.add_scale(parameters, -learning_rate * self.weight_decay, parameters)
        adam = Adam(self.beta1, epsilon=self.epsilon)
        return adam.update(parameters, gradients, optimizer_state, learning_rate, square_decay_complement)


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
        optimizer_state = {"square_avg": optax.tree.zeros_like(parameters), "step": jnp.zeros((), jnp.int32)}
        return optimizer_state | ({"momentum_buffer": optax.tree.zeros_like(parameters)} if self.momentum else {})

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, OptimizerState]:
        gradients = _penalized(gradients, parameters, self.weight_decay)
        square_avg = _average_of_squares(gradients, optimizer_state["square_avg"], square_decay_complement)
        scaled = jax.tree.map(lambda g, v: g / (jnp.sqrt(v) + self.epsilon), gradients, square_avg)
        optimizer_state = optimizer_state | {"square_avg": square_avg, "step": optimizer_state["step"] + 1}
        return _descend(parameters, scaled, optimizer_state, learning_rate, self.momentum)


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
        return {"momentum_buffer": optax.tree.zeros_like(parameters)} if self.momentum else {}

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, OptimizerState]:
        del square_decay_complement  # there are no squared gradients
        gradients = _penalized(gradients, parameters, self.weight_decay)
        return _descend(parameters, gradients, optimizer_state, learning_rate, self.momentum)


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
        learning_rate: Array | float,
        square_decay_complement: Array | float,
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

    def update(
        self,
        parameters: Parameters,
        gradients: Parameters,
        optimizer_state: OptimizerState,
        learning_rate: Array | float,
        square_decay_complement: Array | float,
    ) -> tuple[Parameters, OptimizerState]:
        # optax's clipping adds no 1e-6.
        scale = jnp.minimum(1.0, self.max_norm / (optax.tree.norm(gradients) + 1e-6))
        scaled = optax.tree.scale(scale, gradients)
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


def _penalized(gradients: Parameters, parameters: Parameters, weight_decay: float) -> Parameters:
    """Add a multiple of the parameters to their gradients: the gradient of an L2 penalty."""
    return optax.tree.add_scale(gradients, weight_decay, parameters) if weight_decay else gradients


def _average_of_squares(gradients: Parameters, average: Parameters, complement: Array | float) -> Parameters:
    """Move the decaying average of the squared gradients, given 1 - its decay."""
    return jax.tree.map(lambda v, g: (1 - complement) * v + complement * g * g, average, gradients)


def _descend(
    parameters: Parameters,
    directions: Parameters,
    optimizer_state: OptimizerState,
    learning_rate: Array | float,
    momentum: float,
) -> tuple[Parameters, OptimizerState]:
    """Go down the directions, or down their decaying sum where there is momentum."""
    if momentum:
        directions = optax.tree.add_scale(directions, momentum, optimizer_state["momentum_buffer"])
        optimizer_state = optimizer_state | {"momentum_buffer": directions}
    moved: Any = optax.apply_updates(parameters, optax.tree.scale(-learning_rate, directions))
    return moved, optimizer_state
