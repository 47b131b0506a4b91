# SPDX-License-Identifier: Apache-2.0
"""The real NVRTC takes all kernels; it needs no GPU."""

from pathlib import Path
import re

import pytest

import hmr_ros.runtime
from hmr_ros.runtime import EngineError
from hmr_ros.runtime.kernel_compiler import compile_kernel

SOURCES = sorted(Path(hmr_ros.runtime.__file__).parent.glob('*.cu'))


@pytest.fixture(scope='module')
def nvrtc():
    """Return the real NVRTC, which compiles without a GPU."""
    nvrtc = pytest.importorskip('cuda.bindings.nvrtc', reason='cuda-bindings is not installed')
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:
        pytest.skip(f'nvidia-cuda-nvrtc is not installed: {str(error).splitlines()[0][:80]}')
    return nvrtc


@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize('capability', ['7.2', '7.5', '8.0', '8.7', '9.0', '10.0', '12.0'])
def test_nvrtc_compiles_the_kernels(nvrtc, capability, source):
    _, known = nvrtc.nvrtcGetSupportedArchs()
    if int(capability.replace('.', '')) not in known:
        with pytest.raises(EngineError, match='cannot compile .*gpu-architecture'):
            compile_kernel(source, capability)
        return
    code = compile_kernel(source, capability)
    names = re.findall(rb'__global__ void (?:__launch_bounds__\([^)]+\) )?(\w+)\(',
                       source.read_bytes())
    assert code.startswith(b'\x7fELF') and names and all(name in code for name in names)


def test_errors_of_nvrtc_are_told_in_its_words(nvrtc, tmp_path):
    source = tmp_path / 'wrong.cu'
    source.write_text('__global__ void wrong() { nobody_knows(); }')
    with pytest.raises(EngineError, match='wrong.cu.*nobody_knows.*undefined'):
        compile_kernel(source, '9.0')
