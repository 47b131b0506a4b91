# SPDX-License-Identifier: Apache-2.0
"""
How true the digitizer's surfaces are, beside the body that keypoint_guided fits.

Both see the same picture, a held-out person before a drawn background. The digitizer gets the true
joints, the fit the true box. Then both are judged alike (sheet, section 6):

- The distance to the camera is a guess of the fit, and one unit to the digitizer, so neither is
  asked for it: each surface is scaled about the camera, which keeps its picture, until the middle
  ratio of true to found depth, over the pixels that both cover, is 1.
- The truth is what can be seen from around the person. Skin below clothes is none of it: a naked
  body in a skirt would score by legs that nobody sees.
- Lengths are of the true size.

The floor is the surface that the true depth of front and back makes at that resolution: what a
digitizer without errors would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out
from hmr_ros.evaluation.digitizer_metrics import (
    front_normals, normal_errors, seen_from_outside, Shape, solid_overlap, surface_distances)
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.subject import Subject
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.digitizer.depth import FIELD_OF_VIEW_DEG
from hmr_ros.perception.digitizer.digitization import digitize
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.mesh import direct_mesh, Mesh
from hmr_ros.perception.digitizer.networks import Networks
from hmr_ros.perception.digitizer.poisson import smooth_mesh
from hmr_ros.perception.digitizer.surface import Surface, surface_of
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.mesh_recovery import MeshRecovery
from hmr_ros.perception.person import PersonBox
from hmr_ros.training.digitizer_2k2k.scans import draw_scans, Scan
from hmr_ros.training.synthetic.backgrounds import draw_background

#: rows of the report: what was found in the picture, in the cut-out picture, and the others.
FOUND, CUT_OUT, BODY, FLOOR = 'digitizer', 'digitizer_cut_out', 'fitted_body', 'floor'
_TITLES = {FOUND: 'digitizer', CUT_OUT: '  cut out', BODY: 'fitted body', FLOOR: 'floor'}
_CM = 100
_DRAWS = 1000
#: of a pixel that the person covers, 0 to 255.
_MOSTLY = 127
#: people of whom a turntable is made, the first ones.
_TURNTABLES = 3
#: makes a mesh of a surface and its image.
Mesher = Callable[[Surface, np.ndarray], Mesh]
MESHERS: dict[str, Mesher] = {'direct': direct_mesh, 'poisson': smooth_mesh}


@dataclass(frozen=True)
class Errors:
    """
    Of one surface.

    p2s_cm, chamfer_cm     mean distances, see `surface_distances`
    normal_deg, normal_l2  of the front view, see `normal_errors`
    iou_percent            of the solids
    scale                  by what it was scaled about the camera, in units of the true size
    """

    p2s_cm: float
    chamfer_cm: float
    normal_deg: float
    normal_l2: float
    iou_percent: float
    scale: float


@dataclass(frozen=True)
class Judged:
    """Errors of a surface, and the normals (S, S, 3) of its front view."""

    errors: Errors
    normals: np.ndarray


@dataclass(frozen=True)
class Truth:
    """A scan as it is judged against: what is seen of it from around, and from the front."""

    seen: Shape
    normals: np.ndarray
    depth: np.ndarray
    unit_m: float

    @classmethod
    def of(cls, scan: Scan) -> Truth:
        """Look at a scan from all around; linings would turn normals and solids inside out."""
        seen = seen_from_outside(Shape(scan.vertices, scan.faces))
        return cls(seen, *front_normals(seen, scan.front.shape[0]), scan.unit_m)

    def judge(self, found: Shape) -> Judged:
        """
        Judge a surface in the virtual camera's axes, of whatever size.

        Raises EvaluationError when it covers nothing of the person in the picture.
        """
        normals, depth = front_normals(found, len(self.depth))
        scale = depth_ratio(depth, self.depth)
        moved = Shape(np.float32(found.vertices * scale), found.faces)
        p2s, chamfer = surface_distances(moved, self.seen)
        angle, length = normal_errors(normals, self.normals)
        return Judged(Errors(
            _CM * self.unit_m * p2s, _CM * self.unit_m * chamfer, angle, length,
            100 * solid_overlap(moved, self.seen), scale), normals)


def depth_ratio(found: np.ndarray, true: np.ndarray) -> float:
    """
    Return the middle ratio of `true` to `found` depth `(S, S)`, infinite where nothing is.

    Raises EvaluationError where they have no pixel in common.
    """
    both = np.isfinite(found) & np.isfinite(true)
    if not both.any():
        raise EvaluationError(
            'the surface that was found covers no pixel of the true one; it cannot be aligned')
    return float(np.median(true[both] / found[both]))


def shape_of(mesh: Mesh) -> Shape:
    """Take a mesh from the world, see `to_world`, back to the camera's axes."""
    return Shape(np.float32(mesh.vertices * (1, -1, -1) + (0, 0, 1)), mesh.faces)


def picture_of(scan: Scan, rng: np.random.Generator) -> np.ndarray:
    """Put a scan before a drawn background: uint8 RGB `(S, S, 3)`."""
    cover = scan.image[..., 3:].astype(np.float32) / 255
    behind = draw_background(rng, scan.image.shape[0])
    return np.round(scan.image[..., :3] * cover + behind * (1 - cover)).astype(np.uint8)


def fitted_body(subject: Subject, scan: Scan, picture: np.ndarray) -> Shape:
    """Fit the body of keypoint_guided to a picture; units of the scan."""
    side = scan.image.shape[0]
    rows, columns = np.nonzero(scan.image[..., 3] > _MOSTLY)
    box = np.float32([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    recovery = MeshRecovery(subject.engine, subject.body, subject.settings)
    camera = Camera.from_fov(side, side, FIELD_OF_VIEW_DEG)
    person, = recovery.recover(picture, 'rgb', camera, [PersonBox(box)])
    vertices, _ = subject.body.skin(
        rotations.axis_angle_to_matrix(person.pose[None]), person.betas[None], person.transl[None])
    return Shape(np.float32(vertices[0] / scan.unit_m), subject.body.faces.astype(np.int32))


def meshed_by(method: str) -> Mesher:
    """Return what makes meshes, 'direct' or 'poisson'; raises EvaluationError for others."""
    if method not in MESHERS:
        raise EvaluationError(f'no meshes by {method!r}; there are {" and ".join(MESHERS)}')
    return MESHERS[method]


@dataclass(frozen=True)
class Contest:
    """Who is judged: networks, or None for the others alone, how meshes are made, and the fit."""

    networks: Networks | None
    mesher: Mesher
    subject: Subject

    def meshes(self, scan: Scan, picture: np.ndarray) -> dict[str, Mesh]:
        """Digitize a person, with background and cut out, and mesh the true depth."""
        found = {}
        if self.networks is not None:
            for name, mask in ((FOUND, None), (CUT_OUT, scan.image[..., 3] > _MOSTLY)):
                surface = digitize(picture, Joints(scan.joints), self.networks, mask=mask).surface
                found[name] = self.mesher(surface, picture)
        found[FLOOR] = self.mesher(surface_of(scan.front, scan.back), picture)
        return found


@dataclass(frozen=True)
class Outcome:
    """A person's picture, meshes and judgements by the names of the rows."""

    picture: np.ndarray
    meshes: dict[str, Mesh]
    judged: dict[str, Judged]
    truth: Truth


def judge_people(contest: Contest, scans: Iterator[Scan]) -> Iterator[Outcome | None]:
    """Judge one person after the other; None for those that the digitizer refuses."""
    for number, scan in enumerate(scans):
        picture = picture_of(scan, np.random.default_rng([held_out.SEED, number]))
        try:
            meshes = contest.meshes(scan, picture)
        except PerceptionError:
            yield None
            continue
        shapes = {name: shape_of(mesh) for name, mesh in meshes.items()}
        shapes[BODY] = fitted_body(contest.subject, scan, picture)
        truth = Truth.of(scan)
        yield Outcome(picture, meshes, {
            name: truth.judge(shape) for name, shape in shapes.items()}, truth)


def run_evaluation(
        engine: str | Networks | None = 'digitizer_2k2k', people: int = 100,
        method: str = 'direct', resolution: int = 512, fit: str = 'keypoint_guided',
        out: str | Path | None = None, console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate the digitizer and return the report of `hmr evaluate digitizer_2k2k`.

    engine      name of its engines in the manifest, a weights file, networks, or None to judge the
                fitted body and the floor alone
    people      held-out synthetic people
    method      how surfaces become meshes, see `meshed_by`
    resolution  of the pictures when there are no networks to say so
    fit         engine of keypoint_guided that is compared with it
    out         folder for report.json and pictures, or None

    Raises EvaluationError when nobody could be digitized.
    """
    from hmr_ros.runtime import load_engine
    console, surroundings = console or Console(), context()
    networks = open_networks(engine) if isinstance(engine, str) else engine
    subject = Subject.of(load_engine(fit), load_body())
    side = networks.resolution if networks is not None else resolution
    contest = Contest(networks, meshed_by(method), subject)
    pages = _Pages(Path(out)) if out is not None else None
    with Progress(console=console) as progress:
        task = progress.add_task('People', total=people)
        errors = []
        for outcome in judge_people(contest, draw_scans(people, side, held_out.SEED)):
            progress.advance(task)
            if outcome is not None:
                errors.append({name: one.errors for name, one in outcome.judged.items()})
                if pages is not None:
                    pages.add(outcome)
    if not errors:
        raise EvaluationError(f'none of {people} people could be digitized; are there weights?')
    report = {
        'network': 'digitizer_2k2k', 'engine': engine if isinstance(engine, str) else '',
        'dataset': f'synthetic held-out people, seed {held_out.SEED}', 'resolution': side,
        'mesh': method, 'fit': fit, 'samples': len(errors), 'refused': people - len(errors),
        **summary(errors), **surroundings}
    show(report, console)
    if pages is not None:
        pages.write(report, errors)
        console.print(f'wrote report.json and pictures to {out}')
    return report


def open_networks(source: str) -> Networks:
    """Open engines by their common name, or the networks of a weights file (.safetensors)."""
    if source.endswith('.safetensors'):
        from hmr_ros.training.digitizer_2k2k.torch_networks import networks_of
        from hmr_ros.training.digitizer_2k2k.weights import read_network
        return networks_of(read_network(source)[0])
    from hmr_ros.perception.digitizer.networks import EngineNetworks
    from hmr_ros.runtime.digitizer import open_digitizer
    return EngineNetworks(open_digitizer(source))


def summary(errors: Sequence[dict[str, Errors]]) -> dict[str, Any]:
    """
    Give means by row, and how much less the digitizer's are than those of the fitted body.

    *_spread is the standard deviation of that when the people are drawn again (bootstrap).
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(errors), size=(_DRAWS, len(errors)))
    names = [field.name for field in fields(Errors)]
    table = {row: {name: np.array([getattr(person[row], name) for person in errors])
                   for name in names} for row in errors[0]}
    rows = {row: _with_spread(columns, drawn) for row, columns in table.items()}
    gains = {row: _with_spread({name: table[row][name] - table[BODY][name]
                                for name in names if name != 'scale'}, drawn)
             for row in table if row != BODY}
    return {'rows': rows, 'minus_fitted_body': gains}


def _with_spread(columns: dict[str, np.ndarray], drawn: np.ndarray) -> dict[str, float]:
    return {key: value for name, column in columns.items() for key, value in (
        (name, float(column.mean())), (f'{name}_spread', float(column[drawn].mean(1).std())))}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(
        title=f'{report["samples"]} held-out people at {report["resolution"]} pixels, '
              f'{report["mesh"]} meshes; ± of the mean',
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
        caption='P2S: from the surface found to the true one, Chamfer: mean of both directions, cm; '
                'normals of the front view; cut out: given the mask; floor: of the true depth')
    # Names in the report, and decimals.
    columns = {'P2S': ('p2s_cm', 2), 'Chamfer': ('chamfer_cm', 2), 'normals °': ('normal_deg', 1),
               'normals L2': ('normal_l2', 2), 'IoU %': ('iou_percent', 1)}
    for name in ('', *columns):
        table.add_column(name, justify='right' if name else 'left', no_wrap=True)
    for row, title in _TITLES.items():
        if row in report['rows']:
            found = report['rows'][row]
            table.add_row(title, *(
                f'{found[key]:.{digits}f} ± {found[f"{key}_spread"]:.{digits}f}'
                for key, digits in columns.values()))
    console.print(table)
    if report['refused']:
        console.print(f'{report["refused"]} people were refused by the digitizer, left out above')


class _Pages:
    """Keeps small pictures of everybody, and writes the best, middle and worst."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._strips: list[list[np.ndarray]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, outcome: Outcome) -> None:
        from hmr_ros.evaluation import pages
        judged = outcome.judged
        best = FOUND if FOUND in judged else FLOOR
        self._strips.append([pages.person_tile(picture) for picture in (
            outcome.picture, *(normal_colours(one) for one in (
                outcome.truth.normals, judged[best].normals, judged[BODY].normals)))])
        if len(self._strips) <= _TURNTABLES:
            from hmr_ros.perception.digitizer.turntable import turntable
            pages.write_picture(turntable(outcome.meshes[best]),
                                self._folder / f'turntable_{len(self._strips)}.jpg')

    def write(self, report: dict[str, Any], errors: Sequence[dict[str, Errors]]) -> None:
        from hmr_ros.evaluation import pages
        write_json(report, self._folder / 'report.json')
        row = FOUND if FOUND in errors[0] else BODY
        chamfer = np.array([person[row].chamfer_cm for person in errors])
        chosen = pages.best_median_worst(chamfer, 4)
        labels = [('', 'true', f'{errors[i][FOUND if FOUND in errors[i] else FLOOR].chamfer_cm:.1f}'
                   ' cm', f'body {errors[i][BODY].chamfer_cm:.1f} cm') for i in chosen]
        pages.strips_page([self._strips[i] for i in chosen], labels,
                          self._folder / 'best_median_worst.jpg')


def normal_colours(normals: np.ndarray) -> np.ndarray:
    """Show normals `(S, S, 3)` of the camera's axes: uint8 RGB, red right, green up, blue near."""
    there = normals.any(2, keepdims=True)
    colours = (normals * np.float32([1, -1, -1]) + 1) * 127.5
    return np.where(there, colours, 255).astype(np.uint8)

