"""FLOP of one training image: ``python -m benchmarks.flops``, a process of its own, which reads one line of JSON.

The figure is that of one step of ``gan_torch`` (its convolutions and matrix products, first and second derivatives
included), divided by the batch: the work that is useful. A slower contender that does more, such as the gradients of
the discriminator's weights in the generator's update, is not credited for it.
"""

import json
import sys
from dataclasses import replace

from benchmarks.settings import Settings, prepare, read_settings

# Every counted operation is linear in the batch, so that a few images suffice.
COUNTED_BATCH = 4


def flops_per_image(settings: Settings) -> float:
    """Count the FLOP of one step of ``gan_torch``, per image; a multiplication and an addition are two."""
    from benchmarks.work import count

    counted = replace(settings, backend="torch", batch_size=COUNTED_BATCH, precision="float32", device="cpu")
    config, _ = prepare(replace(counted, data=None, data_on="host"))
    return count(config).flops / COUNTED_BATCH


if __name__ == "__main__":
    print(json.dumps(flops_per_image(read_settings())))
    sys.exit(0)
