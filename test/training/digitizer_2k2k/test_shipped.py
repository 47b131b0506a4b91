# SPDX-License-Identifier: Apache-2.0
"""The shipped engines of the digitizer, on people they have not seen."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='fp16 is made by onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='the engines are run by onnxruntime')

from hmr_ros.perception.digitizer.depth import length_of  # noqa: E402
from hmr_ros.perception.digitizer.digitization import digitize  # noqa: E402
from hmr_ros.perception.digitizer.frame import (  # noqa: E402
    colours_of_training, low_resolution, planes_of)
from hmr_ros.perception.digitizer.joints import Joints  # noqa: E402
from hmr_ros.perception.digitizer.networks import EngineNetworks  # noqa: E402
from hmr_ros.runtime.digitizer import open_digitizer  # noqa: E402
from hmr_ros.runtime.half_precision import typed_network  # noqa: E402
from hmr_ros.runtime.manifest import engines_folder  # noqa: E402
from hmr_ros.training.digitizer_2k2k.scans import draw_scans, Scan  # noqa: E402

SIDE = 512


@pytest.fixture(scope='module')
def scans() -> list[Scan]:
    return list(draw_scans(3, SIDE, seed=407))


def cut_out(scan: Scan) -> np.ndarray:
    cover = scan.image[..., 3:].astype(np.float32) / 255
    return np.round(scan.image[..., :3] * cover).astype(np.uint8)


def test_people_are_found_where_they_are_and_deeper_than_a_board(scans: list[Scan]) -> None:
    engines = open_digitizer()
    networks = EngineNetworks(engines)
    for scan in scans:
        found = digitize(cut_out(scan), Joints(scan.joints), networks)
        true = scan.front <= scan.back
        both = found.surface.there & true
        assert both.sum() > 0.85 * (found.surface.there | true).sum()
        front, back = length_of(scan.front)[both], length_of(scan.back)[both]
        off = np.abs(length_of(found.front)[both] - front).mean() + np.abs(
            length_of(found.back)[both] - back).mean()
        board = np.abs(front - np.median(front)).mean() + np.abs(back - np.median(back)).mean()
        assert off < board
    for engine in engines.values():
        engine.close()


def test_depth_of_people_stands_fp16(scans: list[Scan]) -> None:
    path = engines_folder() / 'digitizer_2k2k_low.onnx'
    exact, half = (onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
                   for content in (path.read_bytes(), typed_network(path.read_bytes(), 'fp16',
                                                                    path)))
    for scan in scans:
        image = low_resolution(planes_of(colours_of_training(cut_out(scan))))[None]
        depth, rounded = (session.run(['depth'], {'image': image})[0][0]
                          for session in (exact, half))
        body = depth[2] > 0.5
        off = np.abs(length_of(rounded[:2]) - length_of(depth[:2]))[:, body].mean()
        assert 1000 * scan.unit_m * off <= 0.3  # sheet, check 12
