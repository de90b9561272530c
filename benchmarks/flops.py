"""Work of a training step: ``python -m benchmarks.flops``, a process of its own, which reads one line of JSON.

The figures are those of one step of ``gan_torch`` (first and second derivatives included): the work that is useful. A
slower contender that does more, such as the gradients of the discriminator's weights in the generator's update, is not
credited for it.
"""

import json
import sys
from dataclasses import replace

from benchmarks.settings import Settings, prepare, read_settings


def work_of(settings: Settings) -> dict[str, float]:
    """Count one step of ``gan_torch``, on tensors without values.

    Returns:
        ``flops_per_image`` (of convolutions and matrix products; a multiplication and an addition are two),
        ``bytes_per_image`` (read and written, in the run's precision, if every operation goes to memory for itself) and
        ``operations_per_step``.
    """
    from benchmarks.work import count

    config, _ = prepare(replace(settings, backend="torch", device="cpu", data=None, data_on="host"))
    work, batch = count(config), config.training.batch_size
    return {
        "flops_per_image": work.flops / batch,
        "bytes_per_image": work.bytes / batch,
        "operations_per_step": work.operations,
    }


if __name__ == "__main__":
    print(json.dumps(work_of(read_settings())))
    sys.exit(0)
