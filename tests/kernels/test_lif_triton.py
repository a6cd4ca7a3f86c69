"""The GPU kernels without a GPU: interpreted on the CPU, compiled for one, refused by name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bsnn_tha import AnnealedLeaky, lif_sequence
from bsnn_tha.equations.surrogate import FastSigmoid
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional import lif_operator

ONE = torch.tensor(1.0)
HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@needs_triton
def test_kernels_in_the_interpreter():
    options = "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"
    result = python(*options, str(HERE / "triton_interpreted.py"), TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from bsnn_tha.kernels.gpu import lif as kernels

WINDOWS = "current", "spikes", "membranes", "g_spikes", "g_membranes", "g_current"
forward = dict(SUBTRACT=True, ZERO=False, KEEP=True)
backward = dict(SPIKES=True, MEMBRANES=True, BETA=True, THRESHOLD=True, SUBTRACT=False, ZERO=True)
cases = [("fp32", "fp32", kernels._forward_scan, forward)]
cases += [("bf16", "fp32", kernels._forward_scan, {**forward, "SUBTRACT": False, "ZERO": True})]
axes = [
    ("fast_sigmoid", "none", False, "fp32"), ("arctan", "sigmoid", True, "bf16"),
    ("sigmoid", "arctan", False, "fp64"), ("exponential", "triangle", True, "fp32"),
    ("rectangle", "piecewise", False, "bf16"), ("triangle", "arctan", True, "fp32"),
]
for shape, window, fired_only, dtype in axes:
    real = "fp64" if dtype == "fp64" else "fp32"
    chosen = {"SURROGATE": shape, "WINDOW": window, "FIRED_ONLY": fired_only}
    cases += [(dtype, real, kernels._backward_scan, {**backward, **chosen})]
for dtype, real, kernel, constants in cases:
    constants = {**constants, "HALF": dtype == "bf16", "BLOCK": 128}
    signature = {
        name: "constexpr" if name in constants
        else "i32" if name.endswith("stride") or name in ("steps", "neurons", "length")
        else "*" + (dtype if name in WINDOWS else real)
        for name in kernel.arg_names
    }
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": False}
    compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert compiled.asm["cubin"]
    if kernel is kernels._forward_scan:
        assert "fma." not in compiled.asm["ptx"]
print("compiled", len(cases))
"""


@needs_triton
def test_kernels_compile_for_a_gpu(tmp_path):
    result = python("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path))
    assert result.stdout == "compiled 8\n", result.stderr[-4000:]


def test_asking_for_it_without_a_gpu_says_why():
    with pytest.raises(InvalidValueError) as error:
        lif_sequence(torch.ones(3, 2), ONE, ONE, ONE, FastSigmoid(), backend="triton")
    message = "backend='triton' cannot be used: it needs tensors on cuda, but got cpu"
    assert str(error.value) == message
    with pytest.raises(InvalidValueError, match="backend='triton' cannot be used"):
        AnnealedLeaky(0.9, backend="triton").sequence(torch.ones(3, 2))


def test_without_triton_installed():
    absent = (
        "import sys; sys.modules['triton'] = None\n"
        "from bsnn_tha.functional import lif_operator\n"
        "print(lif_operator._scans('triton'))\n"
    )
    result = python("-c", absent, TRITON_INTERPRET="1")
    expected = "(None, 'triton does not work here (ModuleNotFoundError: "
    assert result.stdout.startswith(expected), result.stderr


class OnAGPU:
    """What `choose` looks at."""

    device = torch.device("cuda")
    dtype = torch.float32


@pytest.fixture
def fresh_choice():
    lif_operator._scans.cache_clear()
    lif_operator._say_once.cache_clear()
    yield
    lif_operator._scans.cache_clear()
    lif_operator._say_once.cache_clear()


def test_auto_on_a_gpu(fresh_choice, monkeypatch, caplog):
    monkeypatch.setattr(lif_operator.torch, "Tensor", OnAGPU)
    monkeypatch.setattr(lif_operator, "Tensor", OnAGPU)
    window = OnAGPU()
    for found, expected, said in (
        ((lif_operator, ""), lif_operator, "neurons on cuda run compiled, by triton"),
        (
            (None, "no GPU"),
            lif_operator.lif_tensors,
            "neurons run in tensor operations, which is slower: no GPU",
        ),
    ):
        monkeypatch.setattr(lif_operator, "_scans", lambda name, found=found: found)
        caplog.clear()
        with caplog.at_level("DEBUG", logger="bsnn_tha"):
            for _ in range(2):
                assert lif_operator.choose("auto", window) is expected
        assert [record.getMessage() for record in caplog.records] == [said]
