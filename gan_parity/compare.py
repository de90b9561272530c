"""How two states that began as one are compared, and what counts as equal."""

from collections.abc import Mapping

import numpy as np

from gan_shared.checkpoint import optimizer_state_name
from gan_shared.config import Config
from gan_shared.options import ends

# The claim for one step: rounding of a few thousand float64 additions, with two digits to spare.
ONE_STEP = 1e-11
# The claim for 100 steps, as a part of the distance that each network has travelled.
TRAJECTORY = 1e-9
# The optimizer's state follows the newest gradients and travels nowhere: a change of one unit in the last place of one
# tensor moves it, in torch alone, a hundred times as far as the weights (5e-10 to 2e-8 after 102 steps of dcgan-64).
TRAJECTORY_OPTIMIZER_STATE = 1e-7

# How the names of a state's parts begin; the optimizer's state of each network holds its gradients.
PARTS = ("generator/", "discriminator/", "generator_ema/", "optimizer/generator.", "optimizer/discriminator.")

Tensors = Mapping[str, np.ndarray]


def amplified(ours: Tensors, theirs: Tensors, name: str, config: Config) -> np.ndarray | float:
    """Return, element by element, how far apart one Adam update may bring two equal weights.

    Adam divides a gradient by its own size, down to epsilon: a weight whose true gradient is 0, or smaller than
    epsilon, moves by its rounding noise times rate / epsilon. 0 where the optimizer is not Adam.

    Args:
        ours: an exported state.
        theirs: another one.
        name: of the weight.
        config: of the run.
    """
    network, _, parameter = name.replace("generator_ema/", "generator/").partition("/")
    average_name, square_name, step_name = (
        optimizer_state_name(network, parameter, key) for key in ("exp_avg", "exp_avg_sq", "step")
    )
    if average_name not in theirs:
        return 0.0
    optimizer = config.optimizer(network)
    beta1, beta2 = (ends(optimizer.hyperparameter(beta))[0] for beta in ("beta1", "beta2"))
    rate = max(ends(optimizer.learning_rate))
    step = float(theirs[step_name])
    update = []
    for state in (ours, theirs):
        average, square = state[average_name] / (1 - beta1**step), state[square_name] / (1 - beta2**step)
        update.append(average / (np.sqrt(square) + 1e-8))
    return 2 * rate * np.abs(update[0] - update[1])


def distances(ours: Tensors, theirs: Tensors, begin: Tensors) -> dict[str, float]:
    """Return per network |ours - theirs| / |theirs - begin|, all its parameters and statistics together.

    The optimizer's state of each network is a part of its own. Counters must be equal: left in the sum they would be
    most of the distance. Where one is not, or a number is not finite, or nothing has moved, the ratio is infinite.
    """
    ratios = {}
    for network in PARTS:
        mine = [name for name in theirs if name.startswith(network)]
        counters = [name for name in mine if not theirs[name].shape]
        names = [name for name in mine if theirs[name].shape]
        apart = sum(float(((ours[name] - theirs[name]) ** 2).sum()) for name in names)
        travelled = sum(float(((theirs[name] - begin[name]) ** 2).sum()) for name in names)
        sound = np.isfinite(apart) and travelled > 0 and all(ours[name] == theirs[name] for name in counters)
        ratios[network] = (apart / travelled) ** 0.5 if sound else float("inf")
    return ratios
