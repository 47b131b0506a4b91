# SPDX-License-Identifier: Apache-2.0
"""
What another process does to a cache of engines, for test_engine_cache.py.

    other_process.py build      build the engine `mock` on stand-ins once the file `go` is there
    other_process.py die        hold the lock, and die once the file `go` is there
"""

import json
import os
from pathlib import Path
import sys
import time
from types import ModuleType

from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
import numpy as np

from hmr_ros.runtime import BuildOptions, load_engine
from hmr_ros.runtime.engine_cache import EngineCache


def wait_for(path):
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def build(folder):
    cuda, bindings = FakeCuda(), ModuleType('cuda.bindings')
    tensorrt, bindings.runtime = make_tensorrt(cuda), cuda
    sys.modules.update({'tensorrt': tensorrt, 'cuda': ModuleType('cuda'),
                        'cuda.bindings': bindings, 'cuda.bindings.runtime': cuda})
    folder.joinpath(f'ready_{os.getpid()}').touch()
    wait_for(folder / 'go')
    engine = load_engine('mock', 'tensorrt', build=BuildOptions(4, allow_engine_build=True))
    outputs = engine.run({'image': np.ones((1, 3, 8, 8), np.float32)})
    print(json.dumps([tensorrt.builds, engine.path.name, float(outputs['cam'].sum())]))


def die(folder):
    with EngineCache().exclusive(print):
        folder.joinpath(f'ready_{os.getpid()}').touch()
        wait_for(folder / 'go')
        os._exit(1)


if __name__ == '__main__':
    {'build': build, 'die': die}[sys.argv[1]](Path(sys.argv[2]))
