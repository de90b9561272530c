"""Make images with a file of ``torch.export``: ``python read_torch_export.py generator.pt2 INPUTS.npz IMAGES.npy``."""

import sys

import numpy as np
import torch

file, inputs, images = sys.argv[1:]
generator = torch.export.load(file).module()
with np.load(inputs) as given, torch.no_grad():
    made = generator(*(torch.from_numpy(value) for value in given.values()))
np.save(images, made.numpy())
