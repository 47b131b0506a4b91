# SPDX-License-Identifier: Apache-2.0
"""A smooth closed mesh of a cloud: screened Poisson of a library (sheet, section 5.4)."""

from __future__ import annotations

from collections.abc import Callable
import importlib
import os
from types import ModuleType

import numpy as np

from hmr_ros.perception.digitizer.mesh import Mesh
from hmr_ros.perception.digitizer.surface import Cloud, stitched_cloud, Surface
from hmr_ros.perception.errors import PerceptionError

#: libraries that can do it, the preferred one first.
LIBRARIES = ('open3d', 'pymeshlab')
#: octree depth for each image size that leaves no detail of it out (sheet, section 5).
OCTREE_DEPTHS = {512: 8, 1024: 9, 2048: 10}
_FULL_DEPTH, _SCALE, _SAMPLES_PER_NODE, _POINT_WEIGHT = 5, 1.1, 1.5, 4.0
_SHALLOWEST, _DEEPEST = 3, 12
Soup = tuple[np.ndarray, np.ndarray]


def poisson_mesh(cloud: Cloud, octree_depth: int, threads: int = 0) -> Mesh:
    """
    Mesh a cloud by screened Poisson reconstruction; colours are those of the nearest pixel.

    octree_depth  3 to 12; OCTREE_DEPTHS has one for each image size
    threads       of the library; 0 takes the cores that are free now

    The mesh is closed, faces outward, and is the largest piece of what the library made. Takes
    seconds to a minute. Raises PerceptionError where no library is there, or the cloud cannot be
    closed.
    """
    if not _SHALLOWEST <= octree_depth <= _DEEPEST:
        raise PerceptionError(
            f'octree_depth is {octree_depth}; expected {_SHALLOWEST} to {_DEEPEST}')
    if not len(cloud.points):
        raise PerceptionError('the cloud has no points; is a person in the image?')
    name, library = _library()
    vertices, faces = _RECONSTRUCT[name](library, cloud, octree_depth, threads or free_cores())
    if not len(faces):
        raise PerceptionError(
            f'{name} made no triangles of {len(cloud.points)} points; take the direct mesh')
    vertices, faces = _outward(*_largest(vertices, faces))
    _check_closed(faces)
    vertices = vertices.astype(np.float32)
    return Mesh(vertices, faces.astype(np.int32), _colours(vertices, cloud))


def smooth_mesh(surface: Surface, image: np.ndarray, threads: int = 0) -> Mesh:
    """
    Mesh a surface for keeping: its cloud, stitched along the outline, as fine as its image.

    image  (S, S, 3) uint8 RGB, S one of OCTREE_DEPTHS

    Stitches bring the mesh nearer to the truth everywhere, and its normals most. Raises
    PerceptionError as `poisson_mesh` does, and for an image of another size.
    """
    side = len(surface.there)
    if side not in OCTREE_DEPTHS:
        raise PerceptionError(
            f'a surface of {side} pixels has no octree depth; expected one of '
            f'{", ".join(map(str, OCTREE_DEPTHS))}')
    return poisson_mesh(stitched_cloud(surface, image), OCTREE_DEPTHS[side], threads)


def free_cores() -> int:
    """Return how many processor cores this process may use that nobody keeps busy, 1 at least."""
    # More threads than that wait for each other: minutes instead of seconds (sheet, section 5).
    return max(1, len(os.sched_getaffinity(0)) - round(os.getloadavg()[0]))


def _library() -> tuple[str, ModuleType]:
    """Import the first library that is there; raises PerceptionError with all that was wrong."""
    # Waiting threads spin otherwise. Read once, when the first OpenMP library is loaded.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    problems = []
    for name in LIBRARIES:
        try:
            return name, importlib.import_module(name)
        except (ImportError, OSError) as error:
            problems.append(f'{name}: {error}')
    raise PerceptionError(
        f'a Poisson mesh needs {" or ".join(LIBRARIES)} ({"; ".join(problems)}); pip install '
        "'hmr_ros[digitizer]', or take the direct mesh")


def _open3d(library: ModuleType, cloud: Cloud, depth: int, threads: int) -> Soup:
    points = library.geometry.PointCloud()
    points.points = library.utility.Vector3dVector(cloud.points.astype(np.float64))
    points.normals = library.utility.Vector3dVector(cloud.normals.astype(np.float64))
    mesh, _ = library.geometry.TriangleMesh.create_from_point_cloud_poisson(
        points, depth=depth, scale=_SCALE, n_threads=threads, full_depth=_FULL_DEPTH,
        samples_per_node=_SAMPLES_PER_NODE, point_weight=_POINT_WEIGHT)
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles)


def _pymeshlab(library: ModuleType, cloud: Cloud, depth: int, threads: int) -> Soup:
    meshes = library.MeshSet()
    meshes.add_mesh(library.Mesh(
        vertex_matrix=cloud.points.astype(np.float64),
        v_normals_matrix=cloud.normals.astype(np.float64)))
    meshes.generate_surface_reconstruction_screened_poisson(
        depth=depth, fulldepth=_FULL_DEPTH, scale=_SCALE, threads=threads,
        samplespernode=_SAMPLES_PER_NODE, pointweight=_POINT_WEIGHT)
    mesh = meshes.current_mesh()
    return mesh.vertex_matrix(), mesh.face_matrix()


_RECONSTRUCT: dict[str, Callable[[ModuleType, Cloud, int, int], Soup]] = {
    'open3d': _open3d, 'pymeshlab': _pymeshlab}


def _largest(vertices: np.ndarray, faces: np.ndarray) -> Soup:
    """Keep the piece with the most triangles, and its vertices alone."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    start, end = faces[:, :2].T.ravel(), faces[:, 1:].T.ravel()
    links = coo_matrix((np.ones(len(start), bool), (start, end)), (len(vertices),) * 2)
    _, piece = connected_components(links, directed=False)
    kept = faces[piece[faces[:, 0]] == np.bincount(piece[faces[:, 0]]).argmax()]
    used, numbers = np.unique(kept, return_inverse=True)
    return vertices[used], numbers.reshape(-1, 3)


def _outward(vertices: np.ndarray, faces: np.ndarray) -> Soup:
    """Turn the triangles round where the volume that they close is negative."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return vertices, faces if np.einsum('ni,ni->', a, np.cross(b, c)) > 0 else faces[:, ::-1]


def _check_closed(faces: np.ndarray) -> None:
    """Raise PerceptionError unless every edge comes once in each direction."""
    start, end = faces.ravel().astype(np.int64), np.roll(faces, -1, 1).ravel()
    count = int(faces.max()) + 1
    forth, back = np.sort(start * count + end), np.sort(end * count + start)
    open_edges = int((forth != back).sum())
    if open_edges or (np.diff(forth) == 0).any():
        raise PerceptionError(
            'the Poisson mesh is not closed; choose another octree_depth, or take the direct mesh')


def _colours(vertices: np.ndarray, cloud: Cloud) -> np.ndarray:
    """Colours `(V, 3)` of the points of `cloud` that lie nearest in the virtual camera's image."""
    from scipy.spatial import KDTree
    # Both sides of one pixel lie at one place and have one colour.
    _, nearest = KDTree(_in_image(cloud.points)).query(_in_image(vertices))
    return cloud.colours[nearest]


def _in_image(points: np.ndarray) -> np.ndarray:
    """Where the virtual camera, one unit before the world's origin, sees points: `(N, 2)`."""
    return points[:, :2] / (1 - points[:, 2:])
