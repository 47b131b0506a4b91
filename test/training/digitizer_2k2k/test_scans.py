# SPDX-License-Identifier: Apache-2.0
"""Scans: depth against the mesh itself, joints on the person, and files that give them back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hmr_ros.perception.digitizer.alignment import align
from hmr_ros.perception.digitizer.depth import focal_length, points_of
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.training.digitizer_2k2k.scan_store import ScanStore
from hmr_ros.training.digitizer_2k2k.scans import draw_scans, Scan
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.synthetic import SyntheticError

SIDE = 256


@pytest.fixture(scope='module')
def scans() -> list[Scan]:
    return list(draw_scans(3, SIDE, seed=3))


def hits_along(scan: Scan, row: int, column: int) -> np.ndarray:
    """Lengths of one pixel's ray to all triangles it meets, by Moeller and Trumbore."""
    off = (np.array([column, row]) + 0.5 - SIDE / 2) / focal_length(SIDE)
    ray = np.array([*off, 1.0]) / np.linalg.norm([*off, 1.0])
    a, b, c = scan.vertices[scan.faces].astype(np.float64).transpose(1, 0, 2)
    across = np.cross(ray, c - a)
    with np.errstate(divide='ignore', invalid='ignore'):
        scale = 1 / np.sum((b - a) * across, 1)
        u = -np.sum(a * across, 1) * scale
        second = np.cross(-a, b - a)
        v, length = second @ ray * scale, np.sum((c - a) * second, 1) * scale
    return length[(u >= 0) & (v >= 0) & (u + v <= 1) & (length > 0)]


def test_depth_is_the_first_and_the_last_surface_along_the_ray(scans: list[Scan]) -> None:
    rng = np.random.default_rng(0)
    for scan in scans:
        spots = np.argwhere(scan.front <= scan.back)
        near, far = (np.linalg.norm(points_of(side), axis=-1) for side in (scan.front, scan.back))
        for row, column in spots[rng.choice(len(spots), 25, replace=False)]:
            hits = hits_along(scan, row, column)
            assert abs(hits.min() - near[row, column]) < 2e-4
            assert abs(hits.max() - far[row, column]) < 2e-4


def test_people_stand_at_one_unit_and_fill_the_image(scans: list[Scan]) -> None:
    for scan in scans:
        assert abs(scan.vertices[:, 2].mean() - 1) < 0.05
        rows = np.flatnonzero((scan.front < 6).any(1))
        assert 0.55 < np.ptp(rows) / SIDE < 0.9
        assert 1.2 < np.ptp(scan.vertices[:, 1]) * scan.unit_m < 2.6
        assert 1 < scan.back.max() < 4


def test_all_parts_are_found_by_the_joints(scans: list[Scan]) -> None:
    for scan in scans:
        alignment = align(Joints(scan.joints), SIDE * 2)
        assert len(alignment.placed) + len(alignment.dropped) == 12
        assert not alignment.dropped


def test_the_left_hand_is_on_the_right_of_the_image_of_who_hangs_the_arms(
        scans: list[Scan]) -> None:
    for scan in scans:
        left, right = scan.joints[5], scan.joints[6]
        assert left[0] > right[0]
        # Toes, heels and ankles lie below the knees; eyes above the shoulders.
        assert scan.joints[15:23, 1].min() > scan.joints[11:13, 1].max()
        assert scan.joints[:5, 1].max() < scan.joints[5:7, 1].max()


def test_resolution_and_count_do_not_change_people(scans: list[Scan]) -> None:
    other = next(draw_scans(1, SIDE // 2, seed=3))
    np.testing.assert_array_equal(other.vertices, scans[0].vertices)
    assert not np.array_equal(scans[0].vertices, scans[1].vertices)


def test_colours_cover_what_has_depth(scans: list[Scan]) -> None:
    for scan in scans:
        there = scan.front <= scan.back
        assert np.mean(scan.image[there][:, 3] > 127) > 0.95
        assert not scan.image[~there][:, 3].any()


def test_a_store_gives_scans_back(scans: list[Scan], tmp_path: Path) -> None:
    path = tmp_path / 'scans.npz'
    ScanStore.of_scans(scans, SIDE).save(path)
    store = ScanStore.load(path)
    assert len(store) == len(scans) and store.resolution == SIDE
    for index, scan in enumerate(scans):
        np.testing.assert_array_equal(store.image(index), scan.image)
        for side in ('front', 'back'):
            np.testing.assert_allclose(
                getattr(store, side)(index), getattr(scan, side), atol=1 / 16384)
        np.testing.assert_array_equal(store.joints[index], scan.joints)


def test_another_file_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / 'other.npz'
    np.savez(path, pixels=np.zeros(3))
    with pytest.raises(SyntheticError, match='starts'):
        ScanStore.load(path)


def test_no_scans_are_refused() -> None:
    with pytest.raises(TrainingError, match='1 or more'):
        next(draw_scans(0, SIDE, seed=1))
