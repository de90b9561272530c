"""Make images with a file of ``jax.export``: ``python read_jax_export.py generator.jax INPUTS.npz IMAGES.npy``."""

import sys
from pathlib import Path

import numpy as np
from jax import export

file, inputs, images = sys.argv[1:]
generator = export.deserialize(bytearray(Path(file).read_bytes()))
with np.load(inputs) as given:
    arrays = [given[name] for name in given if name.startswith("latents")]
    # The labels of JAX are 32 bits wide.
    arrays += [given["labels"].astype(np.int32)] if "labels" in given else []
    made = generator.call(*arrays)
np.save(images, np.asarray(made))
