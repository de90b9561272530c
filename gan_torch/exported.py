"""Generators as functions that other programs compute, and the kinds of file that hold them."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_shared.export import Signature, Writer
from gan_shared.sample import TrainedGenerator
from gan_torch.examples import make_images


def writers() -> Mapping[str, Writer]:
    """Return what writes each kind of file that PyTorch can write, by the names of ``gan_shared/export.py``."""
    return {"onnx": _write_onnx, "torch-export": _write_torch_export}


class _Generators(nn.Module):
    """Latents of each generator, and labels where there are classes, to uint8 images; each adds to the one before."""

    def __init__(self, generators: Sequence[TrainedGenerator], ema: bool) -> None:
        super().__init__()
        self.configs = [each.backend.config for each in generators]
        states = [each.state for each in generators]
        networks = [each.generator_ema if ema else each.generator for each in states]
        # Weights in the order that other programs expect, of the copy alone.
        copied = [copy.deepcopy(each).to(memory_format=torch.contiguous_format) for each in networks]
        self.networks = nn.ModuleList(copied)

    def forward(self, *given: Tensor) -> Tensor:
        """Map (batch, latent) of each generator, and labels (batch,), to (batch, height, width, channel)."""
        latents, labels = given[: len(self.networks)], given[len(self.networks) :]
        made = None
        for config, network, own in zip(self.configs, self.networks, latents, strict=True):
            made = make_images(config, network, None, own, labels[0] if labels else None, made)
        assert made is not None, "there is no generator"
        return made


def _exported(generators: Sequence[TrainedGenerator], signature: Signature, ema: bool) -> Any:
    """Trace the generators and return the program, an ExportedProgram."""
    count = signature.batch_size or 4  # any number but 0 and 1, which would be taken for fixed
    given = [torch.zeros(count, length) for _, length in signature.latents]
    given += [torch.zeros(count, dtype=torch.int64)] if signature.labels else []
    batch = {} if signature.batch_size else {0: torch.export.Dim("batch")}
    function = _Generators(generators, ema).eval()
    with torch.no_grad():
        return torch.export.export(function, tuple(given), dynamic_shapes=(tuple(dict(batch) for _ in given),))


def _write_onnx(generators: Sequence[TrainedGenerator], signature: Signature, ema: bool, path: Path) -> None:
    """Write an ONNX file whose inputs and output have the signature's names."""
    program = _exported(generators, signature, ema)
    made = torch.onnx.export(program, input_names=signature.names, output_names=["images"], verbose=False)
    assert made is not None, "a program to be saved is returned where no file is named"
    made.save(str(path))


def _write_torch_export(generators: Sequence[TrainedGenerator], signature: Signature, ema: bool, path: Path) -> None:
    """Write a file of torch.export, whose function takes the inputs in the signature's order."""
    torch.export.save(_exported(generators, signature, ema), path)
