"""Make images with a file of ``torch.export``: ``python read_torch_export.py generator.pt2 INPUTS.npz IMAGES.npy``."""

import sys

import numpy as np
import torch

file, inputs, images = sys.argv[1:]
generator = torch.export.load(file).module()
with np.load(inputs) as given, torch.no_grad():
    names = [name for name in given if name.startswith("latents") or name == "labels"]
    made = generator(*(torch.from_numpy(given[name]) for name in names))
np.save(images, made.numpy())
