# SPDX-License-Identifier: Apache-2.0
"""Compiles CUDA sources for a GPU with NVRTC, through cuda-python; no GPU is needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hmr_ros.runtime.engine import EngineError

_REMEDY = ('install NVRTC of the major version of your CUDA: it comes with JetPack and the CUDA '
           'toolkit (libnvrtc), elsewhere `pip install nvidia-cuda-nvrtc` (CUDA 13) or '
           'nvidia-cuda-nvrtc-cu12')


def compile_kernel(path: Path, compute_capability: str) -> bytes:
    """
    Return machine code (CUBIN) of the CUDA source in `path` for a GPU such as '8.7'.

    Raises EngineError when NVRTC is missing, does not know the GPU, or refuses the source.
    """
    try:
        from cuda.bindings import nvrtc
        nvrtc.nvrtcVersion()
    except (ImportError, OSError, RuntimeError) as error:
        # The binding looks for the library in its first call.
        reason = str(error).splitlines()[0]
        raise EngineError(f'NVRTC cannot be loaded ({reason}); {_REMEDY}') from error
    source = path.read_bytes()
    program = _take(nvrtc, nvrtc.nvrtcCreateProgram(source, path.name.encode(), 0, None, None),
                    'reading a kernel (nvrtcCreateProgram)')
    try:
        return _compiled(nvrtc, program, path, f'sm_{compute_capability.replace(".", "")}')
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _compiled(nvrtc: Any, program: Any, path: Path, architecture: str) -> bytes:
    error, = nvrtc.nvrtcCompileProgram(
        program, 1, [f'--gpu-architecture={architecture}'.encode()])
    if int(error):
        log = bytearray(_take(nvrtc, nvrtc.nvrtcGetProgramLogSize(program), 'asking for a log'))
        nvrtc.nvrtcGetProgramLog(program, log)
        said = ' '.join(bytes(log).rstrip(b'\0').decode(errors='replace').split())
        raise EngineError(f'NVRTC cannot compile {path} for {architecture}: '
                          f'{said or _words(nvrtc, error)}; {_REMEDY}')
    code = bytearray(_take(
        nvrtc, nvrtc.nvrtcGetCUBINSize(program), 'asking for a size (nvrtcGetCUBINSize)'))
    _take(nvrtc, nvrtc.nvrtcGetCUBIN(program, code), 'asking for code (nvrtcGetCUBIN)')
    return bytes(code)


def _take(nvrtc: Any, result: tuple, what: str) -> Any:
    error, *values = result
    if int(error):
        raise EngineError(f'{what} failed: {_words(nvrtc, error)}; {_REMEDY}')
    return values[0] if values else None


def _words(nvrtc: Any, error: Any) -> str:
    _, text = nvrtc.nvrtcGetErrorString(error)
    return text.decode() if isinstance(text, bytes) else str(text)
