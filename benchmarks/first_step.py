"""One start of a training run, up to the end of its first step: ``python -m benchmarks.first_step``.

What ``python -m gan_torch.train`` and its twin do until then: import, load the data, build, draw the first weights,
run a step, wait for it; no checkpoint is written. Started by ``startup.py`` with the settings as a line of JSON.
"""

import json
import sys
import time
from contextlib import closing


def main() -> int:
    """Run one step and print when imports were done and when the step was, in seconds since the epoch."""
    from benchmarks.contenders import import_backend
    from benchmarks.settings import CONTENDERS, prepare, read_settings
    from gan_shared import cli

    assert cli  # what the command line imports before it trains counts too
    settings = read_settings()
    make_backend = import_backend(CONTENDERS[settings.backend].framework)
    from gan_shared.backend import StepValues
    from gan_shared.data.batches import batches, check_batch_size
    from gan_shared.draws import draw
    from gan_shared.schedules import schedule_values
    from gan_shared.train import first_state

    imported_at = time.time()
    config, images = prepare(settings)
    check_batch_size(images, config)
    backend = make_backend(config)
    state = first_state(backend, config)
    with closing(batches(images, config, 0)) as stream:
        step, batch = next(stream)
        _, scalars = backend.steps(state, [StepValues(batch, draw(config, step), schedule_values(config, step))])
        float(scalars["generator_loss"])  # waits for the device, as the log does
    print(json.dumps({"imported_at": imported_at, "first_step_at": time.time(), **backend.versions()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
