# SPDX-License-Identifier: Apache-2.0
"""Users' scans: written as the datasets lay them out, turned and seen as the sheet says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from hmr_ros.perception.digitizer.depth import focal_length, length_of
from hmr_ros.perception.digitizer.joints import JOINTS
from hmr_ros.training.digitizer_2k2k.scan_folder import (
    read_scan, scans_of_folder, seen, YAWS_DEG)
from hmr_ros.training.errors import TrainingError

SIDE = 128


def write_scan(folder: Path, name: str = 'scan.ply') -> trimesh.Trimesh:
    """Write an egg, red in front (z > 0) and blue behind, whose nose is its foremost point."""
    mesh = trimesh.creation.icosphere(4, 1.0)
    mesh.apply_scale([0.3, 0.9, 0.2])
    mesh.visual.vertex_colors = np.where(
        mesh.vertices[:, 2:] > 0, [200, 20, 20, 255], [20, 20, 200, 255]).astype(np.uint8)
    folder.mkdir(parents=True)
    mesh.export(folder / name)
    joints = np.zeros((len(JOINTS), 3))
    joints[0] = 0, 0, 0.2
    joints[1] = 0.3, 0, 0
    np.save(folder / 'joints3d.npy', joints)
    return mesh


def test_a_folder_gives_every_scan_from_all_sides(tmp_path: Path) -> None:
    for name in ('a', 'b'):
        write_scan(tmp_path / name)
    scans = list(scans_of_folder(tmp_path, SIDE, seed=1))
    assert len(scans) == 2 * len(YAWS_DEG)
    for scan in scans:
        there = scan.front <= scan.back
        red, _, blue = scan.image[there].astype(float).mean(0)[:3]
        assert red > 2 * blue
        # An egg of half axes 0.9 and 0.2 to 0.3: unit and depth follow from it.
        assert scan.unit_m == pytest.approx(2.8 * 0.9, rel=0.08)
        thick = (length_of(scan.back) - length_of(scan.front))[there].max() * scan.unit_m
        assert 0.38 < thick < 0.62


@pytest.mark.parametrize('yaw_deg', [-30, 0, 20])
def test_a_turn_takes_the_nose_to_the_subjects_left(tmp_path: Path, yaw_deg: float) -> None:
    write_scan(tmp_path / 'a')
    scan = seen(read_scan(tmp_path / 'a'), yaw_deg, np.random.default_rng(0), SIDE)
    nose, left = scan.joints[0], scan.joints[1]
    middle = scan.joints[2]
    # Half a pixel is what perspective does to a nose that is nearer.
    aside = np.sin(np.radians(yaw_deg)) * 0.2 / scan.unit_m * focal_length(SIDE)
    assert abs(nose[0] - middle[0] - aside) < 0.1 * abs(aside) + 0.5
    assert left[0] > middle[0]


def test_a_texture_becomes_colours(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / 'a'
    write_scan(folder)
    mesh = trimesh.load(folder / 'scan.ply', process=False)
    texture = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), np.uint8))
    mesh.visual = trimesh.visual.TextureVisuals(
        uv=np.full((len(mesh.vertices), 2), 0.5), image=texture)
    (folder / 'scan.ply').unlink()
    mesh.export(folder / 'scan.obj')
    colours = read_scan(folder).colours
    wanted = np.array([10, 200, 30]) / 255
    np.testing.assert_allclose(colours, np.broadcast_to(wanted, colours.shape))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match='no folders'):
        next(scans_of_folder(tmp_path, SIDE, seed=1))
    write_scan(tmp_path / 'a')
    joints = tmp_path / 'a' / 'joints3d.npy'
    np.save(joints, np.zeros((17, 3)))
    with pytest.raises(TrainingError, match=r'joints3d.npy have shape \(17, 3\)'):
        read_scan(tmp_path / 'a')
    joints.unlink()
    with pytest.raises(TrainingError, match='joints3d.npy cannot be read'):
        read_scan(tmp_path / 'a')
    (tmp_path / 'a' / 'scan.ply').write_text('ply\nformat ascii 1.0\nend_header\n')
    with pytest.raises(TrainingError, match='scan.ply'):
        read_scan(tmp_path / 'a')
    (tmp_path / 'a' / 'scan.ply').unlink()
    with pytest.raises(TrainingError, match='0 meshes'):
        read_scan(tmp_path / 'a')
