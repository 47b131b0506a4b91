# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT and CUDA that the package uses exists in NVIDIA's own bindings."""

import ast
import ctypes
import functools
from pathlib import Path
import shutil

from binding_facts import binding_folders, read_facts, run_with_binding, takes
from fake_cuda import FakeCuda
from fake_kernels import FakeDriver, FakeNvrtc
from fake_tensorrt import make_tensorrt
import pytest

RUNTIME = Path(__file__).resolve().parents[2] / 'hmr_ros' / 'runtime'
#: what the variables of each file hold; a member of any other would go unchecked.
RECEIVERS = {
    'tensorrt_build.py': {
        'builder': 'Builder', 'network': 'INetworkDefinition', 'config': 'IBuilderConfig',
        'parser': 'OnnxParser', 'profile': 'IOptimizationProfile', 'timing': 'ITimingCache',
        'tensor': 'ITensor', 'problem': 'ParserError'},
    'tensorrt_engine.py': {
        'engine': 'ICudaEngine', '_engine': 'ICudaEngine', 'context': 'IExecutionContext',
        '_runtime': 'Runtime'}}
FOLDERS = binding_folders()


def chain(node):
    """Return the names of `a.b.c` as a list, or [] when it begins with something else."""
    names = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return [node.id, *names] if isinstance(node, ast.Name) else []


def nodes_of(file):
    return ast.walk(ast.parse((RUNTIME / file).read_text(encoding='utf-8')))


def chains_of(file):
    for node in nodes_of(file):
        names = chain(node)
        yield names[1:] if names[:1] == ['self'] else names


def module_names():
    """Return 'X' or 'X.Y' for each `trt.X.Y` in the package."""
    names = set()
    for file in sorted(path.name for path in RUNTIME.glob('*.py')):
        for found in chains_of(file):
            if len(found) > 1 and found[0] in ('trt', '_trt', 'tensorrt'):
                names.add('.'.join(found[1:2] if found[1] == '__version__' else found[1:]))
    return {name for name in names if not any(other.startswith(name + '.') for other in names)}


def member_calls():
    """Return (class, member, number of arguments or None) for each use of TensorRT's objects."""
    uses = set()
    for file, receivers in RECEIVERS.items():
        for node in nodes_of(file):
            called = isinstance(node, ast.Call)
            names = chain(node.func if called else node)
            if names[:1] == ['self']:
                names = names[1:]
            if len(names) == 2 and names[0] in receivers:
                count = len(node.args) + len(node.keywords) if called else None
                uses.add((receivers[names[0]], names[1], count))
    return uses


@pytest.fixture(scope='module', params=FOLDERS or [None], ids=range(len(FOLDERS) or 1))
def facts(request, tmp_path_factory):
    """Return what an installed binding holds."""
    if request.param is None:
        pytest.skip('tensorrt-cu13-bindings (or -cu12-) is not installed')
    if not (shutil.which('cc') or shutil.which('gcc')):
        pytest.skip('looking into the binding needs a C compiler')
    work = tmp_path_factory.mktemp('empty_libraries')
    return {**read_facts(request.param, work), 'folder': request.param, 'work': work}


def test_the_search_finds_what_the_package_uses():
    assert {'Builder', 'OnnxParser', 'Runtime', 'IProgressMonitor', 'MemoryPoolType.WORKSPACE',
            'ILogger.Severity.ERROR', 'nptype', '__version__'} <= module_names()
    uses = member_calls()
    assert ('IExecutionContext', 'execute_async_v3', 1) in uses
    assert ('IBuilderConfig', 'set_timing_cache', 2) in uses
    assert ('Runtime', 'engine_host_code_allowed', None) in uses and len(uses) > 40


def test_every_name_of_the_module_exists(facts):
    for name in sorted(module_names()):
        owner, _, member = name.rpartition('.')
        if name == '__version__' or name in facts['functions'] or name in facts['classes']:
            continue
        assert owner in facts['classes'], f'{name} is not in TensorRT {facts["__version__"]}'
        assert member in facts['classes'][owner], f'{name}: {sorted(facts["classes"][owner])}'


def test_every_member_exists_and_takes_as_many_arguments(facts):
    for owner, member, count in sorted(member_calls(), key=str):
        members = facts['classes'][owner]
        assert member in members, f'{owner}.{member} is not in TensorRT {facts["__version__"]}'
        if count is not None:
            assert takes(members[member], count), f'{owner}.{member}: {members[member]}'


def test_what_tensorrt_calls_has_the_documented_arguments(facts):
    monitor = facts['classes']['IProgressMonitor']
    assert {'phase_start', 'step_complete', 'phase_finish'} <= set(monitor)
    for name, count in (('phase_start', 3), ('step_complete', 2), ('phase_finish', 1)):
        assert takes(monitor[name], count) and not takes(monitor[name], count + 1)
    assert takes(facts['classes']['ILogger']['log'], 2)


SUBCLASSES = '''
import tensorrt_bindings as trt
from hmr_ros.runtime.build_options import BuildWatch
from hmr_ros.runtime.tensorrt_build import make_logger, make_monitor, spec_of

logger = make_logger(trt)
logger.log(trt.ILogger.Severity.WARNING, 'not kept')
logger.log(trt.ILogger.Severity.ERROR, 'kept ')
steps = []
monitor = make_monitor(trt, BuildWatch(progress=lambda *step: steps.append(step)))
monitor.phase_start('p', None, 1)
goes_on = monitor.step_complete('p', 0)
spec = spec_of(trt, 'x', trt.Dims([-1, 3]), trt.DataType.HALF)
print(logger.summary(), steps, goes_on, isinstance(logger, trt.ILogger), spec.shape, spec.dtype)
'''


def test_our_subclasses_are_made_of_the_real_classes(facts):
    assert run_with_binding(facts['folder'], facts['work'], SUBCLASSES).strip() == (
        "kept [('p', 0, 1), ('p', 1, 1)] True True (-1, 3) float16")


def test_the_stand_in_has_nothing_that_the_real_module_lacks(facts):
    for name, item in make_tensorrt(FakeCuda()).members.items():
        if not isinstance(item, type):
            assert name in facts['functions']
            continue
        real = facts['classes'][name]
        for member in (m for m in vars(item) if not m.startswith('_')):
            assert member in real or f'{name}.{member}' in facts['classes'], f'{name}.{member}'


def test_weak_typing_is_not_used():
    """From 11 on it is gone: precision is in the graph."""
    assert not [name for name in module_names() if name.split('.')[-1] in (
        'FP16', 'BF16', 'INT8', 'FP8', 'IInt8Calibrator', 'EXPLICIT_BATCH')]


# CUDA ----------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def runtime():
    """Return the real `cuda.bindings.runtime`, which imports without a GPU."""
    return pytest.importorskip(
        'cuda.bindings.runtime', reason='cuda-bindings is not installed')


@pytest.fixture(scope='module')
def kernel_parts():
    """Return the real modules that make and run kernels, which import without their libraries."""
    reason = 'cuda-bindings is not installed'
    return {'driver': pytest.importorskip('cuda.bindings.driver', reason=reason),
            'nvrtc': pytest.importorskip('cuda.bindings.nvrtc', reason=reason)}


def kernel_calls():
    """Return (module, function, number of arguments) for each call of the driver and NVRTC."""
    calls = set()
    for file, part in (('cuda.py', 'driver'), ('kernel_compiler.py', 'nvrtc')):
        for node in nodes_of(file):
            names = chain(node.func) if isinstance(node, ast.Call) else []
            if len(names) > 1 and names[-2] == part:
                assert not node.keywords
                calls.add((part, names[-1], len(node.args)))
    return calls


def test_every_call_of_driver_and_nvrtc_exists_and_takes_as_many_arguments(kernel_parts):
    calls = kernel_calls()
    assert {'cuModuleLoadData', 'cuModuleGetFunction', 'cuLaunchKernel', 'cuModuleUnload',
            'nvrtcCompileProgram', 'nvrtcGetCUBIN'} <= {name for _, name, _ in calls}
    for part, name, count in calls:
        doc = getattr(kernel_parts[part], name).__doc__
        assert takes(doc.split('\n\n')[0], count), f'{name}: {doc[:160]}'


def test_stand_ins_for_driver_and_nvrtc_have_nothing_that_the_real_ones_lack(kernel_parts):
    for fake, part in ((FakeDriver, 'driver'), (FakeNvrtc, 'nvrtc')):
        for name, function in vars(fake).items():
            if name.startswith(('cu', 'nvrtc')):
                doc = getattr(kernel_parts[part], name).__doc__.split('\n\n')[0]
                assert takes(doc, function.__code__.co_argcount - 1), f'{name}: {doc}'


def test_kernels_and_their_arguments_are_of_the_form_that_the_driver_takes(kernel_parts):
    """Without a driver the call fails when that is looked for, after the arguments were taken."""
    driver, values = kernel_parts['driver'], (0, 1)
    start = functools.partial(
        driver.cuLaunchKernel, driver.CUfunction(0), 1, 1, 1, 16, 16, 1, 0, 12345)
    for call, wrong, right in (
            (lambda given: start((values, given), 0), ('pointer', 'int'),
             (ctypes.c_void_p, ctypes.c_int)),
            (driver.cuModuleLoadData, object(), b'no code')):
        with pytest.raises(TypeError):
            call(wrong)
        try:
            error, *_ = call(right)
        except RuntimeError as missing:
            assert 'driver' in str(missing) or 'libcuda' in str(missing)
        else:
            assert int(error), 'there is neither a kernel at 0 nor code'


def cuda_names():
    return {found[-1] if len(found) == 2 else '.'.join(found[1:]) for found in
            chains_of('cuda.py') if len(found) > 1 and found[0] in ('runtime', '_runtime')}


def test_every_cuda_name_exists(runtime):
    names = cuda_names()
    assert {'cudaMalloc', 'cudaGraphLaunch', 'cudaStreamNonBlocking',
            'cudaMemcpyKind.cudaMemcpyHostToDevice'} <= names
    for name in sorted(names):
        item = runtime
        for part in name.split('.'):
            item = getattr(item, part)
    for field in ('name', 'major', 'minor', 'totalGlobalMem'):
        assert hasattr(runtime.cudaDeviceProp, field)


def test_every_cuda_call_has_as_many_arguments_as_it_takes(runtime):
    counted = 0
    for node in nodes_of('cuda.py'):
        names = chain(node.func) if isinstance(node, ast.Call) else []
        if names and names[-1].startswith('cuda'):
            doc = getattr(runtime, names[-1]).__doc__
            assert takes(doc.split('\n\n')[0], len(node.args)), f'{names[-1]}: {doc[:80]}'
            counted += 1
    assert counted >= 18


def test_a_machine_without_a_gpu_is_an_error_with_words(runtime):
    from hmr_ros.runtime.cuda import Cuda
    from hmr_ros.runtime.engine import EngineError
    error, count = runtime.cudaGetDeviceCount()
    if not int(error) and count:
        pytest.skip('there is a GPU here')
    with pytest.raises(EngineError, match='GPU'):
        Cuda(runtime).device()


def test_the_stand_in_for_cuda_has_nothing_that_the_real_module_lacks(runtime):
    for name in vars(FakeCuda):
        if name.startswith('cuda'):
            assert hasattr(runtime, name), name
