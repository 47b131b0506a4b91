# SPDX-License-Identifier: Apache-2.0
"""A folder with a mock network and its manifest."""

from dataclasses import replace
from pathlib import Path
import sys
from types import ModuleType, SimpleNamespace

import pytest

from hmr_ros.runtime import torch_backend
from hmr_ros.runtime.manifest import ManifestEntry, add_entry, file_sha256

sys.path.insert(0, str(Path(__file__).parent))
from fake_cuda import FakeCuda  # noqa: E402
from fake_kernels import FakeDriver, FakeNvrtc  # noqa: E402
from fake_tensorrt import make_tensorrt  # noqa: E402
from mock_networks import IMAGE, OUTPUTS, write_mock  # noqa: E402


@pytest.fixture(autouse=True)
def no_gpu(request, monkeypatch):
    """Let `backend: auto` choose alike on all machines, but in tests of the GPU."""
    if request.node.get_closest_marker('cuda') is None:
        monkeypatch.setattr(torch_backend, '_DRIVER', 'no driver')


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Return a folder with a mock network and its manifest, made the preferred one."""
    path = write_mock(tmp_path / 'mock.onnx')
    entry = ManifestEntry(
        name='mock', network='keypoint_guided', file='mock.onnx', sha256=file_sha256(path),
        opset=17, inputs={'image': IMAGE}, outputs=OUTPUTS, image_size=8, mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2), licence='Apache-2.0', accuracy={'pck': 0.5})
    add_entry(tmp_path, entry)
    add_entry(tmp_path, replace(entry, name='mock_2', network='mgil'))
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    return tmp_path


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Return a function that makes `import tensorrt` and cuda-python find stand-ins."""
    pytest.importorskip('onnxruntime', reason='the stand-in computes with onnxruntime')
    monkeypatch.setenv('HMR_ENGINE_CACHE_DIR', str(tmp_path / 'built'))

    def install(version='10.3.0', nvrtc=True, **cuda_arguments):
        cuda, bindings = FakeCuda(**cuda_arguments), ModuleType('cuda.bindings')
        parts = {'runtime': cuda, 'driver': FakeDriver(cuda), 'nvrtc': FakeNvrtc(not nvrtc)}
        tensorrt = make_tensorrt(cuda, version)
        for name, module in (('tensorrt', tensorrt), ('cuda', ModuleType('cuda')),
                             ('cuda.bindings', bindings)):
            monkeypatch.setitem(sys.modules, name, module)
        for name, part in parts.items():
            setattr(bindings, name, part)
            monkeypatch.setitem(sys.modules, f'cuda.bindings.{name}', part)
        return SimpleNamespace(
            tensorrt=tensorrt, cuda=cuda, driver=parts['driver'], nvrtc=parts['nvrtc'],
            built=tmp_path / 'built')
    return install


@pytest.fixture
def gpu(install):
    """Return a stand-in for TensorRT 10.3 on an Orin, installed."""
    return install()
