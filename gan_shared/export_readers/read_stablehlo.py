"""Make images with a StableHLO module: ``python read_stablehlo.py generator.mlirbc INPUTS.npz IMAGES.npy``.

XLA compiles it by itself; neither jax.numpy nor Flax takes part.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from jax.extend.backend import get_backend
from jaxlib import _jax  # type: ignore[attr-defined]

file, inputs, images = sys.argv[1:]
cpu = get_backend("cpu")
devices = _jax.DeviceList(tuple(cpu.local_devices()[:1]))
generator = cpu.compile_and_load(Path(file).read_bytes(), devices, _jax.CompileOptions())
with np.load(inputs) as given:
    arrays = [given[name] for name in given if name.startswith("latents")]
    # The labels of JAX are 32 bits wide.
    arrays += [given["labels"].astype(np.int32)] if "labels" in given else []
(made,) = generator.execute([jax.device_put(value, cpu.local_devices()[0]) for value in arrays])
np.save(images, np.asarray(made))
