# SPDX-License-Identifier: Apache-2.0
"""
A stand-in for torch.cuda on tensors of the CPU, as careless code sees it.

What is enqueued may run at the last moment: copies that do not block, and graphs, wait until
something else runs on their stream, or somebody waits for it. A capture computes nothing: what it
made is NaN until the graph is replayed, and reads and writes the memory of its capture then.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: a value that is read back, for which a GPU must be waited for.
READS_BACK = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


def tensors_of(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def memory_of(tree):
    return {tensor.untyped_storage().data_ptr() for tensor in tensors_of(tree)}


class Stream(TorchDispatchMode):
    """Defers what may be deferred, in order."""

    def __init__(self, device):
        super().__init__()
        self.device, self.queue, self._flushes = device, [], False

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        if self._flushes:
            return function(*arguments, **options)
        if function is torch.ops.aten.copy_.default and arguments[2:] == (True,):
            self.queue.append(lambda: function(*arguments))
            return arguments[0]
        self._flush()
        return function(*arguments, **options)

    def synchronize(self):
        """Run what waits."""
        self._flush()

    def _flush(self):
        self._flushes = True
        try:
            while self.queue:
                self.queue.pop(0)()
        finally:
            self._flushes = False


class Capture(TorchDispatchMode):
    """Records calls; refuses those that read back."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function in READS_BACK:
            raise RuntimeError('operation not permitted when stream is capturing')
        options = options or {}
        found = function(*arguments, **options)
        self.calls.append((function, arguments, options, found))
        return found


class CUDAGraph:
    """Calls to repeat on the same memory."""

    def __init__(self):
        self.calls, self.stream = [], None

    def replay(self):
        """Enqueue the calls."""
        self.stream.queue.append(self._repeat)

    def _repeat(self):
        with torch.inference_mode():
            for function, arguments, options, found in self.calls:
                new = function(*arguments, **options)
                for old, tensor in zip(tensors_of(found), tensors_of(new)):
                    if old.data_ptr() != tensor.data_ptr():
                        old.copy_(tensor)


class FakeTorchCuda:
    """torch.cuda; `refusals` captures fail, and `log` says what was asked for."""

    CUDAGraph = CUDAGraph

    def __init__(self, refusals=0):
        self.log, self.refusals = [], refusals

    def Stream(self, device):  # noqa: N802
        self.log.append('stream')
        return Stream(device)

    @contextmanager
    def stream(self, stream):
        with stream:
            yield

    def graph_pool_handle(self):
        return (0, 1)

    @contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        assert pool == (0, 1) and capture_error_mode == 'thread_local' and not stream.queue
        self.log.append('capture')
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError('operation failed due to a previous error during capture')
        capture = Capture()
        with capture:
            yield
        graph.calls, graph.stream = capture.calls, stream
        self._poison(graph.calls)

    def _poison(self, calls):
        for _, arguments, options, found in calls:
            given = memory_of((arguments, options))
            for tensor in tensors_of(found):
                if tensor.is_floating_point() and not memory_of(tensor) & given:
                    tensor.fill_(torch.nan)

    def empty_cache(self):
        self.log.append('empty_cache')
