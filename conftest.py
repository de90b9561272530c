"""What all tests share: how frameworks compute and compile here, and which tests are skipped for want of one."""

import os

import pytest

# The tests compile more than they run: LLVM is spared what costs more than the slower code does. One thread per worker,
# as workers keep every core busy.
LLVM = ("xla_cpu_disable_loop_unrolling", "xla_cpu_disable_slp_vectorizer", "xla_cpu_optimize_for_size")
XLA_FLAGS = (
    "--xla_cpu_multi_thread_eigen=false",
    "--xla_cpu_parallel_codegen_split_count=1",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_backend_optimization_level=1",
    f"--xla_backend_extra_options={','.join(LLVM)}",
)
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "XLA_FLAGS": " ".join(XLA_FLAGS)}


def pytest_configure(config: pytest.Config) -> None:
    """Set what frameworks read when they are imported, for all workers and for the processes that tests start.

    What one of them has compiled the others take from the disk.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if getattr(config, "cache", None) is not None:  # absent with -p no:cacheprovider
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked with a framework that cannot be imported."""
    from tests.frameworks import FRAMEWORKS, HERE

    for item in items:
        for framework in FRAMEWORKS:
            if framework not in HERE and item.get_closest_marker(framework):
                item.add_marker(pytest.mark.skip(reason=f"{framework} is not installed"))
