# SPDX-License-Identifier: Apache-2.0
"""
A stand-in for the module `tensorrt`, which computes with onnxruntime on the memory of a FakeCuda.

It holds callers to the order that the documentation asks for, and has no member that the real
module lacks (test_tensorrt_symbols.py).
"""

from __future__ import annotations

from enum import IntEnum
import gc
import json
import weakref

import numpy as np

MAGIC = b'FAKE PLAN '


def make_tensorrt(cuda, version='10.3.0'):  # noqa: C901 a module is one scope
    """Return a module-like object of that TensorRT version on `cuda`."""
    import onnx
    import onnxruntime
    dtypes = {1: 'FLOAT', 7: 'INT64', 6: 'INT32', 10: 'HALF'}

    class DataType(IntEnum):
        FLOAT, HALF, INT32, INT64, FP8 = range(5)

    class TensorIOMode(IntEnum):
        NONE, INPUT, OUTPUT = range(3)

    class NetworkDefinitionCreationFlag(IntEnum):
        STRONGLY_TYPED = 1

    class BuilderFlag(IntEnum):
        TF32, VERSION_COMPATIBLE = range(2)

    class MemoryPoolType(IntEnum):
        WORKSPACE = 0

    class HardwareCompatibilityLevel(IntEnum):
        NONE, AMPERE_PLUS = range(2)

    class ExecutionContextAllocationStrategy(IntEnum):
        STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)

    class ILogger:
        class Severity(IntEnum):
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    class IProgressMonitor:
        pass

    class ITensor:
        def __init__(self, proto):
            kind = proto.type.tensor_type
            self.name = proto.name
            self.shape = tuple(d.dim_value if d.HasField('dim_value') else -1
                               for d in kind.shape.dim)
            self.dtype = getattr(DataType, dtypes[kind.elem_type])

    class INetworkDefinition:
        def __init__(self):
            self._content = self._model = None

        @property
        def num_inputs(self):
            return len(self._model.graph.input)

        @property
        def num_outputs(self):
            return len(self._model.graph.output)

        def get_input(self, index):
            return ITensor(self._model.graph.input[index])

        def get_output(self, index):
            return ITensor(self._model.graph.output[index])

    class ParserError:
        def desc(self):
            return 'the fake parser cannot read this'

    class OnnxParser:
        def __init__(self, network, logger):
            self._network, self.num_errors = network, 0

        def parse(self, model):
            try:
                self._network._model = onnx.load_model_from_string(model)
                onnx.checker.check_model(self._network._model)
            except Exception:
                self.num_errors = 1
                return False
            self._network._content = model
            return True

        def get_error(self, index):
            return ParserError()

    class IOptimizationProfile:
        def __init__(self):
            self._shapes = {}

        def set_shape(self, input, min, opt, max):
            assert all(a <= b <= c for a, b, c in zip(min, opt, max))
            self._shapes[input] = (min, opt, max)

    class ITimingCache:
        def __init__(self, content):
            self._content = content

        def serialize(self):
            return self._content + b'+1'

    class IBuilderConfig:
        def __init__(self):
            self._flags, self._pools = {BuilderFlag.TF32}, {}
            self._profiles, self._timing = [], None
            self.progress_monitor = None
            self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE

        def set_memory_pool_limit(self, pool, size):
            self._pools[pool] = size

        def set_flag(self, flag):
            self._flags.add(flag)

        def clear_flag(self, flag):
            self._flags.discard(flag)

        def create_timing_cache(self, content):
            return None if content == b'of another version' else ITimingCache(content)

        def set_timing_cache(self, timing, ignore_mismatch):
            self._timing = timing
            return True

        def get_timing_cache(self):
            return self._timing

        def add_optimization_profile(self, profile):
            self._profiles.append(profile)
            return len(self._profiles) - 1

    class Builder:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            if module.refuse_builders:
                raise TypeError('pybind11::init(): factory function returned nullptr')
            self._logger = logger

        def create_network(self, flags=0):
            typed = flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            assert typed or int(version.split('.')[0]) >= 11, 'weakly typed'
            return INetworkDefinition()

        def create_builder_config(self):
            return IBuilderConfig()

        def create_optimization_profile(self):
            return IOptimizationProfile()

        def build_serialized_network(self, network, config):
            module.builds += 1
            module.last_config = config
            profile, = config._profiles
            inputs = [network.get_input(i) for i in range(network.num_inputs)]
            assert {t.name for t in inputs} == set(profile._shapes)
            monitor = config.progress_monitor
            monitor.phase_start('Building', None, 2)
            for step in range(2):
                if not monitor.step_complete('Building', step):
                    return None
            monitor.phase_finish('Building')
            if module.refuse_builds:
                self._logger.log(ILogger.Severity.ERROR, 'the fake builder has no memory')
                return None
            facts = {'version': version, 'gpu': cuda.properties.name.decode(),
                     'profile': profile._shapes}
            return memoryview(MAGIC + json.dumps(facts).encode() + b'\n' + network._content)

    class IExecutionContext:
        def __init__(self, engine):
            self._engine, self._shapes, self._addresses = engine, {}, {}
            self._memory = self._warm = None
            self._version = 0
            module.live.add(self)

        def set_device_memory(self, memory, size):
            assert size >= self._engine.device_memory_size_v2 and memory % 256 == 0
            cuda.bytes_at(memory, size)
            self._memory = memory

        def set_input_shape(self, name, shape):
            smallest, _, largest = self._engine._profile[name]
            if not all(a <= b <= c for a, b, c in zip(smallest, shape, largest)):
                return False
            self._shapes[name], self._warm = tuple(shape), False
            self._version += 1
            return True

        def infer_shapes(self):
            return [name for name in self._engine._profile if name not in self._shapes]

        def get_tensor_shape(self, name):
            if name in self._shapes:
                return self._shapes[name]
            batch, = {shape[self._engine._shape(name).index(-1)]
                      for name, shape in self._shapes.items()}
            return self._engine._sizes(name, batch)

        def set_tensor_address(self, name, address):
            assert not self.infer_shapes(), 'addresses before shapes'
            size = int(np.prod(self.get_tensor_shape(name))) * self._engine._numpy(name).itemsize
            cuda.bytes_at(address, size)
            self._addresses[name] = address
            self._version += 1
            return True

        def execute_async_v3(self, stream_handle):
            stream, engine = cuda.stream_of(stream_handle), self._engine
            unbound = [name for name in engine._names if name not in self._addresses]
            if unbound or self._memory is None:
                engine._logger.log(ILogger.Severity.ERROR, f'not bound: {unbound}')
                return False
            if stream.capture is not None and (not self._warm or module.refuse_captures):
                stream.spoiled = True
                engine._logger.log(ILogger.Severity.ERROR, 'this cannot be captured')
                return False
            self._warm, captured = True, self._version
            # Like a graph: addresses and shapes of now, and the context as it is.
            addresses, shapes = dict(self._addresses), dict(self._shapes)

            def work():
                assert captured == self._version, 'the context changed after its capture'
                engine._compute(addresses, shapes)
            stream.enqueue(work)
            return True

    class ICudaEngine:
        device_memory_size_v2 = 1000

        def __init__(self, plan, logger):
            facts, content = plan[len(MAGIC):].split(b'\n', 1)
            self._profile, self._logger = json.loads(facts)['profile'], logger
            self._session = onnxruntime.InferenceSession(
                content, providers=['CPUExecutionProvider'])
            model = onnx.load_model_from_string(content)
            self._inputs = [t.name for t in model.graph.input]
            self._tensors = {t.name: ITensor(t) for t in (*model.graph.output,
                                                          *model.graph.input)}
            self._names = list(self._tensors)
            module.live.add(self)

        num_io_tensors = property(lambda self: len(self._names))

        def _shape(self, name):
            return self._tensors[name].shape

        def _numpy(self, name):
            return np.dtype(nptype(self._tensors[name].dtype))

        def _sizes(self, name, batch):
            shape, first = self._shape(name), True
            sizes = []
            for size in shape:
                sizes.append(size if size != -1 else batch if first else module.open_sizes[name])
                first = first and size != -1
            return tuple(sizes)

        def get_tensor_name(self, index):
            return self._names[index]

        def get_tensor_mode(self, name):
            return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

        def get_tensor_shape(self, name):
            return self._shape(name)

        def get_tensor_dtype(self, name):
            return self._tensors[name].dtype

        def create_execution_context(self, strategy):
            assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
            return None if module.refuse_contexts else IExecutionContext(self)

        def _compute(self, addresses, shapes):
            feeds = {name: np.frombuffer(
                cuda.bytes_at(addresses[name], int(np.prod(shape)) * self._numpy(name).itemsize),
                self._numpy(name)).reshape(shape) for name, shape in shapes.items()}
            outputs = [name for name in self._names if name not in feeds]
            for name, array in zip(outputs, self._session.run(outputs, feeds)):
                np.frombuffer(cuda.bytes_at(addresses[name], array.nbytes), array.dtype)[:] = \
                    array.ravel()

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, ILogger)
            self._logger, self.engine_host_code_allowed = logger, False
            module.live.add(self)

        def deserialize_cuda_engine(self, plan):
            module.deserialised += 1
            if not plan.startswith(MAGIC):
                self._logger.log(ILogger.Severity.ERROR, 'magic tag does not match')
                return None
            return ICudaEngine(plan, self._logger)

    def nptype(dtype):
        names = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32,
                 DataType.INT64: np.int64}
        if dtype not in names:
            raise TypeError('no such numpy type')
        return names[dtype]

    class Module:
        """What stands for the module; the lower-case attributes are the test's own."""

        __version__ = version
        builds = deserialised = 0
        refuse_builders = refuse_builds = refuse_captures = refuse_contexts = False
        last_config = None

        def __init__(self, members):
            self.live, self.open_sizes = weakref.WeakSet(), {}
            self.members = members
            vars(self).update(members)

        def still_alive(self):
            gc.collect()
            return list(self.live)

    members = {item.__name__: item for item in (
        DataType, TensorIOMode, NetworkDefinitionCreationFlag, BuilderFlag, MemoryPoolType,
        HardwareCompatibilityLevel, ExecutionContextAllocationStrategy, ILogger, IProgressMonitor,
        ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile, ITimingCache,
        IBuilderConfig, Builder, IExecutionContext, ICudaEngine, Runtime, nptype)}
    module = Module(members)
    return module
