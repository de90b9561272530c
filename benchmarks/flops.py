"""FLOP of one training image: ``python -m benchmarks.flops``, a process of its own, spoken to in one line of JSON.

The figure is that of one step of ``gan_torch`` (its convolutions and matrix products, first and second derivatives
included), divided by the batch: the work that is useful. A slower contender that does more, such as the gradients of
the discriminator's weights in the generator's update, is not credited for it.
"""

import json
import sys
from dataclasses import replace
from typing import Any

from benchmarks.settings import Settings, prepare, read_settings
from gan_shared.backend import StepValues
from gan_shared.data.batches import batch_at
from gan_shared.draws import draw
from gan_shared.schedules import knobs

# Every counted operation is linear in the batch, so that few images tell as much as many.
COUNTED_BATCH = 4


def flops_per_image(settings: Settings) -> float:
    """Count the FLOP of one step of ``gan_torch`` on the CPU, per image; a multiplication and an addition are two."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    from gan_torch.backend import Backend

    class Counter(TorchDispatchMode):
        """Add up torch's own formulas.

        ``FlopCounterMode`` does so too, but hooks every module beside, which fails under ``autograd.grad`` at an image.
        """

        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            output = func(*args, **(kwargs or {}))
            formula = flop_registry.get(func._overloadpacket)
            if formula is not None:
                self.total += formula(*args, **(kwargs or {}), out_val=output)
            return output

    counted = replace(settings, backend="torch", batch_size=COUNTED_BATCH, precision="float32", device="cpu")
    config, images = prepare(replace(counted, data=None, data_on="host"))
    backend = Backend(config)
    value = StepValues(batch_at(images, config, 0), draw(config, 0), knobs(config, 0))
    state = backend.init()
    with Counter() as counter:
        backend.steps(state, [value])
    return counter.total / COUNTED_BATCH


if __name__ == "__main__":
    print(json.dumps(flops_per_image(read_settings())))
    sys.exit(0)
