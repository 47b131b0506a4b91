# SPDX-License-Identifier: Apache-2.0
"""Whole bodies of held-out synthetic people: errors of mesh, hands and face (sheet, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hmr_ros.body import load_whole_body
from hmr_ros.body.whole_body import OPEN_WHOLE_BODY, WholeBodyModel
from hmr_ros.body.whole_body_joints import BODY_JOINTS
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.whole_body_metrics import MEASURES, WholeBodyMeasures
from hmr_ros.perception.whole_body import pose_of
from hmr_ros.runtime import load_engine
from hmr_ros.training.bidrn import people as people_code
from hmr_ros.training.bidrn.data import WHOLE_RECIPE, WholePeopleCrops
from hmr_ros.training.bidrn.people import render_whole_people, WholePeople

#: input `image`, RGB 0 to 1, to the outputs of an engine.
Run = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
#: name of those who do not look at the picture.
MEAN_POSE = 'mean pose'
#: company, things in front, borders and sensors as in training; boxes and views as they are.
RECIPE = replace(WHOLE_RECIPE, flip=0.0, turn=0.0, zoom=0.0, shift=0.0)
_BATCH, _DRAWS = 16, 1000


@dataclass(frozen=True)
class Contender:
    """
    A network of whole bodies.

    name, sha256, run  the engine's or file's
    shape       height and width of its crops in pixels
    body_model  name of the body it knows, '' when nobody says
    """

    name: str
    sha256: str
    run: Run
    shape: tuple[int, int]
    body_model: str


def contender(name: str) -> Contender:
    """Load an engine or weights file of bidrn; EvaluationError when it is of another network."""
    return _of_weights(name) if name.endswith('.safetensors') else _of_engine(name)


def _of_engine(name: str) -> Contender:
    engine = load_engine(name)
    if engine.entry is None or engine.entry.network != 'bidrn':
        raise EvaluationError(
            f'engine {name!r} is of the network '
            f'{getattr(engine.entry, "network", "of no manifest")}; expected one of bidrn')
    return Contender(engine.name, engine.sha256, engine.run,
                     tuple(engine.entry.inputs['image'][2:]), engine.entry.body_model)


def _of_weights(path: str) -> Contender:
    import torch

    from hmr_ros.runtime.manifest import file_sha256
    from hmr_ros.training.bidrn.weights import read_network
    network, facts = read_network(path)
    network.eval()

    def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            found = network(torch.from_numpy(feeds['image']))
        return {name: value.numpy() for name, value in found._asdict().items()}

    return Contender(f'{Path(path).parent.name}/{Path(path).stem}', file_sha256(Path(path)), run,
                     network.variant.sizes.image, facts.body_model)


def run_evaluation(
        engines: Sequence[str] = ('bidrn',), samples: int = 500, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate networks and return the report of `hmr evaluate bidrn`.

    engines  names in the manifest, ONNX files beside a manifest, or weights files of `hmr train`;
             the others are compared with the first, on the same people
    samples  held-out synthetic people, of another seed than training's

    Boxes are the people's own, as from a perfect detector. Raises EvaluationError for a network of
    another kind or another body.
    """
    console, surroundings, body = console or Console(), context(), load_whole_body()
    contenders = [contender(name) for name in engines]
    for one in contenders:
        check_body(one, body)
    with console.status(f'{samples} held-out people'):
        people = held_out_people(body, samples)
    measures, found = WholeBodyMeasures(body), []
    for one in contenders:
        with console.status(f'bodies of {one.name}'):
            found.append(errors_of(one, people, measures))
    means = mean_pose_errors(people, measures)
    report = report_of(contenders, found, means, f'{samples} held-out people')
    report = {'samples': samples, **report, **surroundings}
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
    return report


def check_body(one: Contender, body: WholeBodyModel) -> None:
    """Raise EvaluationError when a network knows another kind of body."""
    if (one.body_model == OPEN_WHOLE_BODY.stem) != (body.name == OPEN_WHOLE_BODY.stem):
        raise EvaluationError(
            f'{one.name} knows the body {one.body_model!r}, but {body.name!r} was given; give the '
            'body it was trained with')


def held_out_people(body: WholeBodyModel, count: int) -> WholePeople:
    """Return `count` rendered people, kept in the user's cache folder."""
    return held_out.cached(
        body, f'whole_{count}', lambda: render_whole_people(body, count, held_out.SEED),
        WholePeople.load, people_code.__file__)


def crops_of(people: WholePeople, shape: tuple[int, int]) -> WholePeopleCrops:
    """Compose people into crops of (height, width), as they stand before drawn backgrounds."""
    return WholePeopleCrops(
        people, shape, held_out.SEED, RECIPE, backgrounds=held_out.BACKGROUNDS)


def errors_of(one: Contender, people: WholePeople, measures: WholeBodyMeasures) -> np.ndarray:
    """Errors `(N, 8)` in mm, see MEASURES, of what a contender finds of all people."""
    crops, errors = crops_of(people, one.shape), []
    for rows in batches(len(people)):
        samples = held_out.draw_samples(crops, rows)
        image = samples['image'].transpose(0, 3, 1, 2).astype(np.float32) / 255
        found = meshes_of(one.run({'image': np.ascontiguousarray(image)}), measures.body)
        errors.append(measures(found, true_meshes(samples, measures.body)))
    return np.concatenate(errors)


def batches(count: int) -> Iterator[np.ndarray]:
    """Rows of people, few at a time."""
    for first in range(0, count, _BATCH):
        yield np.arange(first, min(first + _BATCH, count))


def meshes_of(outputs: Mapping[str, np.ndarray], body: WholeBodyModel) -> np.ndarray:
    """Vertices `(N, V, 3)` in metres of an engine's outputs, the pelvis where it is at rest."""
    return body.posed(pose_of(outputs), outputs['shape'], outputs['expression'],
                      np.zeros((len(outputs['shape']), 3), np.float32))[0]


def true_meshes(samples: Mapping[str, np.ndarray], body: WholeBodyModel) -> np.ndarray:
    """Do the same for labels."""
    return body.posed(samples['pose'], samples['betas'], samples['expression'],
                      np.zeros((len(samples['pose']), 3), np.float32))[0]


def mean_pose_errors(people: WholePeople, measures: WholeBodyMeasures) -> np.ndarray:
    """
    Errors `(N, 8)` of the best answer that does not look: the mean mesh of all other people.

    As it is seen from pelvis, wrist or neck in the camera's axes; where the best similarity is
    found anyway, of bodies with the pelvis unturned, and of hands and faces on bodies at rest.
    """
    body, total = measures.body, np.zeros(())
    for rows in batches(len(people)):
        total = total + _views(people, rows, body).sum(1)
    errors = []
    for rows in batches(len(people)):
        errors.append(others_errors(_views(people, rows, body), total, len(people), measures))
    return np.concatenate(errors)


def others_errors(
        views: np.ndarray, total: np.ndarray, count: int,
        measures: WholeBodyMeasures) -> np.ndarray:
    """
    Errors `(N, 8)` of the mean mesh of all others in the place of each person's.

    views  (3, N, V, 3) as of `_views`, of which `total` (3, V, 3) is the sum over `count` people
    """
    camera, upright, resting = (
        measures((whole - own) / max(1, count - 1), own) for whole, own in zip(total, views))
    return np.where(_BY_PART, resting, np.where(_ALIGNED, upright, camera))


_ALIGNED = np.array([name.startswith('pa_') for name in MEASURES])
_BY_PART = _ALIGNED & np.array([name.endswith(('hand', 'face')) for name in MEASURES])


def _views(people: WholePeople, rows: np.ndarray, body: WholeBodyModel) -> np.ndarray:
    """
    Meshes `(3, N, V, 3)` from the pelvis: as they are, with the root unturned, and with the body at
    rest but for hands and face.
    """
    found = []
    for unturned in (0, 1, BODY_JOINTS):
        pose = people.pose[rows].copy()
        pose[:, :unturned] = 0
        mesh = true_meshes({'pose': pose, 'betas': people.betas[rows],
                            'expression': people.expression[rows]}, body)
        found.append(mesh - body.J_regressor[:1] @ mesh)
    return np.stack(found)


def report_of(
        contenders: Sequence[Contender], found: Sequence[np.ndarray], means: np.ndarray,
        title: str) -> dict[str, Any]:
    """Rows of all contenders and of the mean pose; the first is what others are compared with."""
    rows = [{'engine': one.name, 'sha256': one.sha256, **_row(errors),
             **({} if errors is found[0] else compared(errors, found[0]))}
            for one, errors in zip(contenders, found)]
    return {'network': 'bidrn', 'engine': contenders[0].name, 'dataset': title, 'rows': rows,
            'mean_pose': _row(means)}


def _row(errors: np.ndarray) -> dict[str, float]:
    return {f'{name}_mm': float(value) for name, value in zip(MEASURES, errors.mean(0))}


def compared(errors: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """
    How much larger errors `(N, 8)` are than those of `reference`, mm.

    The spreads are the standard deviations of that when the people are drawn again (paired
    bootstrap).
    """
    rng, change = np.random.default_rng(0), errors - reference
    drawn = rng.integers(len(change), size=(_DRAWS, len(change)))
    spread = np.stack([change[rows].mean(0) for rows in drawn]).std(0)
    return {f'{name}_{what}_mm': float(value)
            for name, mean, deviation in zip(MEASURES, change.mean(0), spread)
            for what, value in (('change', mean), ('spread', deviation))}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(title=f'{report["dataset"]}, mm', box=SIMPLE_HEAD)
    table.add_column('engine')
    for name in MEASURES:
        table.add_column(name.replace('_', ' '), justify='right')
    for row in (*report['rows'], {'engine': MEAN_POSE, **report['mean_pose']}):
        table.add_row(row['engine'], *(_cell(row, name) for name in MEASURES))
    console.print(table)


def _cell(row: dict[str, Any], name: str) -> str:
    text = f'{row[f"{name}_mm"]:.1f}'
    if f'{name}_change_mm' not in row:
        return text
    return f'{text} ({row[f"{name}_change_mm"]:+.1f} ± {row[f"{name}_spread_mm"]:.1f})'
