# SPDX-License-Identifier: Apache-2.0
"""Exports of the published networks run by torch as they do by onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')
pytest.importorskip('onnx', reason='the onnx package is not installed')
pytest.importorskip('onnxruntime', reason='the onnxruntime backend is not installed')

from hmr_ros.networks.keypoint_guided import build_network, COMPACT, Variant  # noqa: E402
from hmr_ros.networks.rsc_net import BodyFilter, RscNet, RscTemporal  # noqa: E402
from hmr_ros.runtime import load_engine  # noqa: E402
from hmr_ros.runtime.benchmark import random_feeds  # noqa: E402
from hmr_ros.training.keypoint_guided.export import export_onnx  # noqa: E402
from hmr_ros.training.rsc_net.export import (  # noqa: E402
    export_body_filter, export_rsc_net, export_rsc_temporal, export_single_row)

pytestmark = pytest.mark.torch


def single_row(network: RscNet, path: Path) -> Path:
    return export_single_row(network, 4, path, 'float32')


@pytest.mark.parametrize('build, export', [
    (lambda: build_network(Variant()), export_onnx),
    (lambda: build_network(Variant('resnet34')), export_onnx),
    (lambda: build_network(COMPACT), export_onnx),
    (RscNet, export_rsc_net),
    (RscNet, single_row),
    (RscTemporal, export_rsc_temporal),
    (lambda: BodyFilter(20, 160), export_body_filter)])
@pytest.mark.slow
def test_exports_by_torch_equal_those_by_onnxruntime(
        build: Callable[[], torch.nn.Module], export: Callable[..., Path],
        tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = str(export(build().eval(), tmp_path / 'network.onnx'))
    reference, engine = load_engine(path, 'onnxruntime', threads=2), load_engine(
        path, 'torch', threads=2)
    for batch in (1, 3, 8):
        feeds = random_feeds(engine.inputs, batch)
        expected = reference.run(feeds)
        for name, array in engine.run(feeds).items():
            np.testing.assert_allclose(
                array, expected[name], atol=1e-4 * max(np.abs(expected[name]).max(), 1e-3))
