"""Make images with an ONNX file: ``python read_onnx.py generator.onnx INPUTS.npz IMAGES.npy``."""

import sys

import numpy as np
import onnxruntime

file, inputs, images = sys.argv[1:]
session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
with np.load(inputs) as given:
    (made,) = session.run(["images"], {each.name: given[each.name] for each in session.get_inputs()})
np.save(images, np.asarray(made))
