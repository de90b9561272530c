"""Where a report was made: the GPU and its driver, the versions, and what each framework reports of its device."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks import machine

# Beside the packages of every result.
PACKAGES = ("torchvision", "triton", "jax-cuda13-plugin", "jax-cuda12-plugin", "safetensors")
# What changes how a framework computes or compiles.
VARIABLES = ("XLA_FLAGS", "CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS")
# Fields of nvidia-smi; the clocks and the power limit decide what a card reaches.
GPU_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm", "clocks.max.memory")


def host() -> dict[str, Any]:
    """Return the machine, the GPU as its driver describes it (None without one), the versions and the variables."""
    found = machine.versions()
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"machine": machine.describe(), "gpu": gpu(), "versions": found, "variables": variables}


def gpu() -> dict[str, str] | None:
    """Return what nvidia-smi says of the first GPU, by field; None where there is no such program or no GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode or not done.stdout.strip():
        return None
    values = (value.strip() for value in done.stdout.splitlines()[0].split(","))
    return dict(zip(GPU_FIELDS, values, strict=False))


def torch(device: str) -> dict[str, Any]:
    """Return the version and the settings of PyTorch, and what it reports of the device."""
    import torch

    from gan_torch.backend import find_device

    where = find_device(device)
    facts: dict[str, Any] = {
        "version": torch.__version__,
        "python": platform.python_version(),
        "device": "cpu",
        "cuda": torch.version.cuda,
        "tf32 in matrix products by default": torch.backends.cuda.matmul.allow_tf32,
        "tf32 in convolutions by default": torch.backends.cudnn.allow_tf32,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
    }
    if where.type == "cuda":
        properties = torch.cuda.get_device_properties(where)
        facts |= {
            "device": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "cudnn": torch.backends.cudnn.version(),
        }
    return facts


def jax(device: str) -> dict[str, Any]:
    """Return the version and the settings of JAX, and what it reports of the device."""
    import jax

    from gan_jax.backend import find_device

    where = find_device(device)
    return {
        "version": jax.__version__,
        "device": where.device_kind,
        "platform": where.platform,
        "platform_version": " ".join(where.client.platform_version.split()),
        "devices": [str(each) for each in jax.devices()],
        "default matmul precision": str(jax.config.values["jax_default_matmul_precision"]),
        "memory_bytes": (where.memory_stats() or {}).get("bytes_limit"),
    }
