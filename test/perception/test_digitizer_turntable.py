# SPDX-License-Identifier: Apache-2.0
"""Pictures from all around show each side where it is, whole, lit from the viewer's left."""

from __future__ import annotations

from digitizer_shapes import CENTRE, depths, ELLIPSOID, ellipsoid_hits, ellipsoid_normals
import numpy as np
import pytest

from hmr_ros.perception.digitizer.mesh import coarser, direct_mesh, Mesh, vertex_normals
from hmr_ros.perception.digitizer.surface import surface_of
from hmr_ros.perception.digitizer.turntable import turntable
from hmr_ros.perception.errors import PerceptionError

HEIGHT = 120


@pytest.fixture(scope='module')
def ellipsoid() -> Mesh:
    """Red on the viewer's left of the camera's image, blue on the right."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, :128, 0] = image[:, 128:, 2] = 255
    return direct_mesh(surface_of(*depths(ellipsoid_hits(ELLIPSOID, 256))), image)


def tiles(mesh: Mesh, views: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pictures of the directions: colours, clay; float64."""
    table = turntable(mesh, views, HEIGHT).astype(float)
    assert table.shape[0] == 2 * HEIGHT and table.shape[1] % views == 0
    return tuple(np.split(half, views, 1) for half in (table[:HEIGHT], table[HEIGHT:]))


def covered(tile: np.ndarray) -> np.ndarray:
    return np.abs(tile - tile[0, 0]).max(2) > 8


def test_each_direction_shows_the_silhouette_whole(ellipsoid: Mesh) -> None:
    coloured, clay = tiles(ellipsoid, 4)
    for number, (above, below) in enumerate(zip(coloured, clay)):
        half_width = ELLIPSOID[0] if number % 2 == 0 else ELLIPSOID[2]
        scale = 0.92 * HEIGHT / (2 * ELLIPSOID[1])
        rows, columns = np.indices(above.shape[:2])
        size = np.hypot((columns + .5 - above.shape[1] / 2) / (half_width * scale),
                        (rows + .5 - HEIGHT / 2) / (ELLIPSOID[1] * scale))
        for tile in (above, below):
            assert covered(tile)[size < 0.9].all() and not covered(tile)[size > 1.12].any()


def test_the_mesh_turns_and_is_never_mirrored(ellipsoid: Mesh) -> None:
    """The camera sees red on the left; from behind it is on the right."""
    coloured, _ = tiles(ellipsoid, 4)
    middle = coloured[0].shape[1] // 2
    for tile, left in ((coloured[0], 0), (coloured[2], 2)):
        seen = covered(tile)
        for half, channel in ((slice(0, middle - 1), left), (slice(middle + 2, None), 2 - left)):
            colour = tile[:, half][seen[:, half]].mean(0)
            assert colour[channel] > 2 * colour[2 - channel]
    # Turned by a quarter, one side alone is seen, and it is the other one after half a turn.
    first, third = (tile[covered(tile)].mean(0) for tile in (coloured[1], coloured[3]))
    assert (first[0] > first[2]) != (third[0] > third[2])
    assert max(first[0] / first[2], first[2] / first[0]) > 3


def test_light_comes_from_above_on_the_left(ellipsoid: Mesh) -> None:
    _, clay = tiles(ellipsoid, 3)
    for tile in clay:
        rows, columns = np.nonzero(covered(tile))
        light = tile[rows, columns].mean(1)
        assert np.corrcoef(rows, light)[0, 1] < -0.3
        assert np.corrcoef(columns, light)[0, 1] < 0


def test_many_triangles_look_like_few(ellipsoid: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = turntable(ellipsoid, 2, HEIGHT).astype(float)
    monkeypatch.setattr('hmr_ros.perception.digitizer.turntable._MOST_FACES', 1000)
    fewer = turntable(ellipsoid, 2, HEIGHT).astype(float)
    assert 0 < np.abs(whole - fewer).mean() < 3


def test_merging_vertices_keeps_the_shape(ellipsoid: Mesh) -> None:
    cell = 0.01
    mesh = coarser(ellipsoid, cell)
    assert len(mesh.faces) < len(ellipsoid.faces) / 2
    assert mesh.colours.dtype == np.uint8 and mesh.faces.max() < len(mesh.vertices)
    size = np.linalg.norm(mesh.vertices / ELLIPSOID, axis=1)
    assert np.abs(size - 1).max() < cell / ELLIPSOID.min()
    with pytest.raises(PerceptionError, match='no triangles; take less'):
        coarser(ellipsoid, 10)


def test_normals_of_vertices(ellipsoid: Mesh) -> None:
    normals = vertex_normals(ellipsoid)
    true = ellipsoid_normals(ELLIPSOID, ellipsoid.vertices * (1, -1, -1) + CENTRE) * (1, -1, -1)
    cosine = (normals * true).sum(1)
    assert np.degrees(np.arccos(np.quantile(cosine, 0.05))) < 15
    assert np.median(cosine) > 0.999


def test_nothing_is_no_turntable(ellipsoid: Mesh) -> None:
    with pytest.raises(PerceptionError, match='turntable of 0 triangles'):
        turntable(Mesh(ellipsoid.vertices, ellipsoid.faces[:0], ellipsoid.colours))
