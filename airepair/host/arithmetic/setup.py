"""Which arithmetic the CPU's libraries use: portable (the same bits on every x86-64 processor) or
native (the fastest kernels).

PyTorch, MKL, oneDNN, OpenBLAS and NumPy choose their kernels by the instruction set, and kernels
differ in their last bits: one digits CNN trained from one seed had a test accuracy of .827, .813,
.797 or .811 by the instruction set alone. The libraries read these variables when they load, so the
entry points (the suite's plugin fixtures/arithmetic.py, the commands of `airepair`) call `set_up`
before anything imports torch or numpy. airepair/host/arithmetic/canary.py finds out whether it worked.
Free of torch; docs/protocol.md has what was measured.
"""

from __future__ import annotations

import os
import platform
import sys

LIBRARIES = ("torch", "numpy")  # scipy and scikit-learn import numpy
SETTINGS = {
    "MKL_CBWR": "COMPATIBLE",  # matrix products and LAPACK of torch
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own vectorised kernels
    "DNNL_MAX_CPU_ISA": "AVX2",  # convolutions (oneDNN)
    "OPENBLAS_CORETYPE": "Nehalem",  # BLAS and LAPACK of numpy and scipy
}
NUMPY_FEATURES = "NPY_DISABLE_CPU_FEATURES"
NUMPY_GROUPS = "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"  # numpy 2.4 and later: what it can switch off on x86-64
NUMPY_SINGLE = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"  # before 2.4
# The help of --native, an option of pytest and of several commands.
NATIVE = (
    "the CPU's fastest kernels on digits too; without it digits gives the same bits on every x86-64 "
    "processor with AVX2"
)


def settings() -> dict[str, str]:
    """Returns the variables with their values; empty if portable arithmetic is not defined (no
    x86-64 processor).
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return {}
    return SETTINGS | {NUMPY_FEATURES: _numpy_features()}


def _numpy_features() -> str:
    """The names differ by numpy's version, and it complains of those that it does not know."""
    from importlib.metadata import PackageNotFoundError, version  # half of what `airepair --help` would take

    try:
        major, minor = map(int, version("numpy").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return NUMPY_GROUPS
    return NUMPY_GROUPS if (major, minor) >= (2, 4) else NUMPY_SINGLE


def is_set() -> bool:
    """Whether this process was asked to be portable: every variable has its value (a child process
    inherits them).
    """
    wanted = settings()
    return bool(wanted) and all(os.environ.get(name) == value for name, value in wanted.items())


def set_up(*, portable: bool) -> str:
    """Chooses what the libraries will read when they load: portable kernels or their own choice, and
    idle OpenMP threads that sleep.

    Returns why the process stays native although portable arithmetic was wanted, "" otherwise. Once
    torch or numpy has loaded nothing is changed.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    loaded = [name for name in LIBRARIES if name in sys.modules]
    if is_set() and not portable and not loaded:  # inherited from the process that started this one
        for name in settings():
            del os.environ[name]
    if is_set() or not portable:
        return ""
    if not settings():
        return f"native arithmetic: portable arithmetic is defined for x86-64, not for {platform.machine()}"
    if loaded:
        return (
            f"native arithmetic: {' and '.join(loaded)} had been imported before the portable kernels "
            f"could be chosen"
        )
    os.environ.update(settings())
    return ""
