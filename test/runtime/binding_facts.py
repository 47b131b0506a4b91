# SPDX-License-Identifier: Apache-2.0
"""
What NVIDIA's binding wheels hold: classes, members, signatures. Needs neither TensorRT nor a GPU.

The extension module of a binding wheel links against three libraries that come with TensorRT. Only
a handful of C functions of theirs are named, and none is called for its result when it is imported,
so empty ones let the real classes be looked at.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys

LIBRARIES = ('nvinfer', 'nvinfer_plugin', 'nvonnxparser')
EMPTY = ''.join(f'void *{name}(void) {{ return 0; }}\n' for name in (
    'createInferBuilder_INTERNAL', 'createInferRefitter_INTERNAL', 'createInferRuntime_INTERNAL',
    'createNvOnnxParserRefitter_INTERNAL', 'createNvOnnxParser_INTERNAL',
    'getBuilderPluginRegistry', 'getNvOnnxParserVersion', 'getPluginRegistry',
    'initLibNvInferPlugins'))
ROOT = Path(__file__).resolve().parents[2]
LAZILY = 'import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n'
PROGRAM = '''
import json
import tensorrt_bindings as trt

def members(item):
    return {name: getattr(item, name).__doc__ or '' for name in dir(item)
            if not name.startswith('_') or name == '__init__'}

facts = {'__version__': trt.__version__, 'classes': {}, 'functions': []}
for name in dir(trt):
    item = getattr(trt, name)
    if isinstance(item, type):
        facts['classes'][name] = members(item)
        if hasattr(item, 'Severity'):
            facts['classes'][name + '.Severity'] = members(item.Severity)
    elif callable(item):
        facts['functions'].append(name)
print(json.dumps(facts))
'''


def binding_folders():
    """
    Return the folders that hold `tensorrt_bindings`.

    HMR_TENSORRT_BINDINGS may name more, such as unpacked wheels of other versions.
    """
    folders = [f for f in os.environ.get('HMR_TENSORRT_BINDINGS', '').split(os.pathsep) if f]
    spec = importlib.util.find_spec('tensorrt_bindings')
    if spec is not None:
        folders.append(str(Path(spec.origin).parents[1]))
    return folders


def run_with_binding(folder, work, program):
    """Return what `program` prints, which may import tensorrt_bindings and hmr_ros."""
    extension = Path(folder) / 'tensorrt_bindings' / 'tensorrt.so'
    major = re.search(rb'libnvinfer\.so\.(\d+)', extension.read_bytes()).group(1).decode()
    source = work / 'empty.c'
    source.write_text(EMPTY)
    for name in LIBRARIES:
        library = f'lib{name}.so.{major}'
        subprocess.run(
            [shutil.which('cc') or 'gcc', '-shared', '-fPIC', f'-Wl,-soname,{library}',
             '-o', str(work / library), str(source)], check=True)
    paths = os.pathsep.join([str(folder), str(ROOT)])
    environment = {**os.environ, 'LD_LIBRARY_PATH': str(work), 'PYTHONPATH': paths}
    return subprocess.run(
        [sys.executable, '-c', LAZILY + program], env=environment, capture_output=True, text=True,
        check=True).stdout


def read_facts(folder, work):
    """Return what the binding in `folder` holds; `work` is a folder for the empty libraries."""
    return json.loads(run_with_binding(folder, work, PROGRAM))


def takes(doc, count):
    """Tell whether a pybind11 or Cython docstring has a signature for `count` arguments."""
    signatures = re.findall(r'^(?:\d+\. )?\w+\((.*)\)(?: ->.*)?$', doc, re.MULTILINE)
    for signature in signatures:
        flat = re.sub(r'\[[^\[\]]*\]|<[^<>]*>', '', signature)
        words = [word for word in flat.split(',') if word.strip()]
        words = [word for word in words if not word.strip().startswith('self')]
        if '*args' in flat:
            continue
        needed = [word for word in words if '=' not in word]
        if len(needed) <= count <= len(words):
            return True
    return False
