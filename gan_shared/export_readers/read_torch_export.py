"""Make images with a file of ``torch.export``: ``python read_torch_export.py generator.pt2 INPUTS.npz IMAGES.npy``."""

import sys

import numpy as np
import torch

file, inputs, images = sys.argv[1:]
generator = torch.export.load(file).module()
with np.load(inputs) as given, torch.no_grad():
    arrays = [given[name] for name in given if name.startswith("latents")]
    arrays += [given["labels"]] if "labels" in given else []
    made = generator(*map(torch.from_numpy, arrays))
np.save(images, made.numpy())
