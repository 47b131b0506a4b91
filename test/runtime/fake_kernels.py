# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for `cuda.bindings.driver` and `nvrtc`: kernels run on the memory of a FakeCuda."""

from types import SimpleNamespace

from fake_cuda import FakeCuda
from kernel_on_cpu import COMPILER, compiled

from hmr_ros.runtime.cuda import Cuda, CudaSession

OK, INVALID, NOT_FOUND, COMPILATION = 0, 1, 500, 6
MAGIC = b'FAKE CUBIN '


class FakeNvrtc:
    """The functions of NVRTC that the package calls; `refuse` is what it says instead."""

    def __init__(self, missing=False):
        self.missing, self.refuse, self.programs = missing, None, 0
        if not COMPILER:
            self.refuse = 'this stand-in needs g++'

    def nvrtcVersion(self):
        if self.missing:
            raise RuntimeError('Failed to dlopen libnvrtc.so.12\nand where it was looked for')
        return OK, 12, 6

    def nvrtcGetErrorString(self, error):
        return OK, b'NVRTC_ERROR'

    def nvrtcCreateProgram(self, src, name, numHeaders, headers, includeNames):
        assert isinstance(src, bytes) and isinstance(name, bytes) and numHeaders == 0
        self.programs += 1
        return OK, SimpleNamespace(source=src, code=None)

    def nvrtcDestroyProgram(self, prog):
        self.programs -= 1
        return (OK,)

    def nvrtcCompileProgram(self, prog, numOptions, options):
        assert numOptions == len(options) == 1
        name, _, value = options[0].partition(b'=')
        assert name == b'--gpu-architecture' and value.startswith(b'sm_')
        if self.refuse:
            return (COMPILATION,)
        prog.code = MAGIC + value + b'\n' + prog.source
        return (OK,)

    def nvrtcGetProgramLogSize(self, prog):
        return OK, len(self.refuse or '') + 1

    def nvrtcGetProgramLog(self, prog, log):
        log[:] = (self.refuse or '').encode() + b'\0'
        return (OK,)

    def nvrtcGetCUBINSize(self, prog):
        return OK, len(prog.code)

    def nvrtcGetCUBIN(self, prog, cubin):
        assert len(cubin) == len(prog.code)
        cubin[:] = prog.code
        return (OK,)


class FakeDriver:
    """The functions of the driver that the package calls, on the streams of a FakeCuda."""

    def __init__(self, cuda):
        self.cuda, self.modules, self.kernels, self.refuse_launches = cuda, [], 0, False

    def cuGetErrorString(self, error):
        return OK, b'the fake driver refuses'

    def cuModuleLoadData(self, image):
        facts = self.cuda.properties
        head, _, source = bytes(image).partition(b'\n')
        if head != MAGIC + f'sm_{facts.major}{facts.minor}'.encode():
            return INVALID, None
        self.modules.append(source.decode())
        return OK, self.modules[-1]

    def cuModuleUnload(self, hmod):
        self.modules.remove(hmod)
        return (OK,)

    def cuModuleGetFunction(self, hmod, name):
        return (OK, compiled(hmod, name.decode())) if name.decode() in hmod else (NOT_FOUND, None)

    def cuLaunchKernel(  # noqa: N803 names of the driver
            self, f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ,
            sharedMemBytes, hStream, kernelParams, extra):
        assert sharedMemBytes == extra == 0 and blockDimX * blockDimY * blockDimZ <= 1024
        assert self.modules, 'a kernel of an unloaded module'
        values, types = kernelParams
        for value, kind in zip(values, types):
            if kind.__name__ == 'c_void_p' and value:  # null is a pointer too
                self.cuda.bytes_at(value, 1)
        if self.refuse_launches or not (gridDimX and gridDimY and gridDimZ):
            return (INVALID,)
        grid, block = (gridDimX, gridDimY, gridDimZ), (blockDimX, blockDimY, blockDimZ)
        self.kernels += 1
        self.cuda.stream_of(hStream).enqueue(lambda: f(grid, block, values, types))
        return (OK,)


class Stand(Cuda):
    """CUDA of the stand-ins, with a session."""

    def __init__(self):
        super().__init__(FakeCuda())
        self.fake_driver = FakeDriver(self.runtime)
        self.session = CudaSession(self)

    @property
    def driver(self):
        return self.fake_driver


def fake_code(path, compute_capability):
    """Stand in for `compile_kernel`."""
    nvrtc = FakeNvrtc()
    _, program = nvrtc.nvrtcCreateProgram(path.read_bytes(), b'', 0, None, None)
    option = f'--gpu-architecture=sm_{compute_capability.replace(".", "")}'
    nvrtc.nvrtcCompileProgram(program, 1, [option.encode()])
    return program.code
