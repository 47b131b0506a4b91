# SPDX-License-Identifier: Apache-2.0
"""Keypoints of held-out synthetic people who cover few pixels: COCO's AP and PCK (sheet 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, metrics
from hmr_ros.evaluation.mgil_contender import Contender, contender, keypoints_in, Look, LOOKS
from hmr_ros.evaluation.mgil_real import evaluate_real
from hmr_ros.evaluation.oks import COCO_SIGMAS, oks, precisions, THRESHOLDS
from hmr_ros.perception import simcc
from hmr_ros.perception.crops import CropTransform, MARGIN
from hmr_ros.training.mgil.config import WIDE
from hmr_ros.training.mgil.data import from_afar
from hmr_ros.training.mgil.pictures import compose, Pictures
from hmr_ros.training.synthetic import Recipe, SyntheticPeople

#: longer sides of the people's boxes in pixels.
SIZES = (24, 48, 96)
#: company, things in front, borders and sensors as in training; boxes and views as they are.
RECIPE = Recipe(flip=0.0, turn=0.0, zoom=0.0, shift=0.0, coarsen=0.0)
PCK_SHARE = 0.2
_SHOULDERS, _HIPS = [5, 6], [12, 11]
_BATCH, _DRAWS = 32, 1000


@dataclass(frozen=True)
class Findings:
    """
    What a contender finds of N people at each size, float64.

    similarity  (sizes, N)      OKS, NaN for people without a labelled keypoint
    score       (sizes, N)      of the person, 0 to 1
    hits        (sizes, N, 17)  PCK: 1, 0, or NaN where not labelled
    """

    similarity: np.ndarray
    score: np.ndarray
    hits: np.ndarray

    def chosen(self, people: np.ndarray) -> Findings:
        """Findings of some people, each as often as named."""
        return Findings(self.similarity[:, people], self.score[:, people], self.hits[:, people])

    def row(self, size: int | None = None) -> dict[str, float]:
        """AP, AP50, AP75, AR and PCK in percent at a size, an index of SIZES, or of all of them."""
        rows = slice(None) if size is None else slice(size, size + 1)
        similarity = self.similarity[rows].ravel()
        each = precisions(similarity, self.score[rows].ravel())
        known = similarity[~np.isnan(similarity)]
        return {
            'ap': float(each.mean()), 'ap50': float(each[0]), 'ap75': float(each[5]),
            'ar': float(100 * np.mean(known[:, None] >= THRESHOLDS)),
            'pck': float(metrics.mean_percent(self.hits[rows], (0, 1, 2)))}


def run_evaluation(
        engines: Sequence[str] = ('mgil',), samples: int = 1000, out: str | Path | None = None,
        console: Console | None = None, look: str = 'once',
        real: str | Path | None = None) -> dict[str, Any]:
    """
    Evaluate engines and return the report of `hmr evaluate mgil`.

    engines  names in the manifest, ONNX files beside a manifest, or weights files of `hmr train`;
             the others are compared with the first, on the same pictures
    samples  held-out synthetic people, each at the sizes of SIZES
    look     one of LOOKS: flip also runs mirrored crops
    real     folder of the real pictures, to judge on them too

    Boxes are the people's own, as from a perfect detector. Raises EvaluationError for a network of
    other keypoints than COCO's.
    """
    console, surroundings = console or Console(), context()
    contenders = [contender(name, simcc.COCO_NAMES) for name in engines]
    with console.status(f'pictures of {samples} held-out people'):
        pictures = held_out_pictures(samples)
    found = []
    for one in contenders:
        with console.status(f'keypoints of {one.name}'):
            found.append(findings(one, pictures, LOOKS[look]))
    report = {
        'network': 'mgil', 'engine': contenders[0].name, 'samples': samples, 'look': look,
        **surroundings,
        'rows': [row for one, its in zip(contenders, found)
                 for row in _rows(one, its, found[0])]}
    if real is not None:
        report['real'] = evaluate_real(contenders, real, LOOKS[look])
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
    return report


def held_out_pictures(samples: int) -> Pictures:
    """Pictures of people of another seed than training's, at the largest of SIZES."""
    body = load_body()
    people = SyntheticPeople(
        held_out.held_out_store(body, samples), round(WIDE * SIZES[-1]), held_out.SEED, RECIPE,
        backgrounds=held_out.BACKGROUNDS, margin=WIDE)
    return compose(people, ((i, people.rng(i)) for i in range(samples)), body)


def findings(one: Contender, pictures: Pictures, look: Look = LOOKS['once']) -> Findings:
    """Run a contender on all pictures, from all distances."""
    found = [_from_distance(one, pictures, share, look) for share in np.array(SIZES) / SIZES[-1]]
    return Findings(*map(np.stack, zip(*found)))


def _from_distance(
        one: Contender, pictures: Pictures, share: float, look: Look
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """OKS, scores and hits of all pictures with `share` of their pixels per side."""
    points, scores = [], []
    for first in range(0, len(pictures), _BATCH):
        images, maps, crops = zip(*(
            seen_from_afar(image, share, one.size)
            for image in pictures.images[first:first + _BATCH]))
        found, certain = keypoints_in(one, images, crops, look)
        # Back to the pixels of the large picture, where the labels are.
        points.append((found - maps[0][:, 2]) / maps[0][0, 0])
        scores.append(simcc.person_scores(certain, np.ones(len(certain))))
    return _judged(np.concatenate(points), np.concatenate(scores), pictures)


def seen_from_afar(
        image: np.ndarray, share: float, size: int
        ) -> tuple[np.ndarray, np.ndarray, CropTransform]:
    """
    Picture `(S, S, 3)` of Pictures with `share` of its pixels per side.

    Returns it, the map `(2, 3)` from its pixels before, and the crop of `size` pixels around the
    person in it.
    """
    small, native = from_afar(image, share)
    middle = native[:, :2] @ np.full(2, len(image) / 2) + native[:, 2]
    return small, native, CropTransform(*middle, MARGIN / WIDE * len(small), size)


def _judged(
        points: np.ndarray, scores: np.ndarray, pictures: Pictures
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = pictures.visibility > 0
    # Who is hidden wholly has no area and is nobody to find.
    known &= (pictures.area > 0)[:, None]
    similarity = oks(points, pictures.points, pictures.area, known, COCO_SIGMAS)
    torso = np.linalg.norm(
        pictures.points[:, _SHOULDERS] - pictures.points[:, _HIPS], axis=-1).max(1)
    hits = metrics.pck_hits(
        points, pictures.points, np.maximum(torso, 1), np.array([PCK_SHARE]), known)[0]
    return similarity, scores, hits


def _rows(one: Contender, its: Findings, reference: Findings) -> list[dict[str, Any]]:
    """Rows of the report: each of SIZES, then all of them together."""
    compare = its is not reference
    return [{'engine': one.name, 'sha256': one.sha256, 'crop': one.size, 'pixels': label,
             **its.row(size), **(compared(its, reference, size) if compare else {})}
            for size, label in (*enumerate(SIZES), (None, 'all'))]


def compared(its: Findings, reference: Findings, size: int | None = None) -> dict[str, float]:
    """
    How much more AP and PCK, in points, `its` are than `reference`'s.

    The spreads are the standard deviations of that when the people are drawn again (paired
    bootstrap).
    """
    rng, people = np.random.default_rng(0), its.score.shape[1]
    again = []
    for _ in range(_DRAWS):
        drawn = rng.integers(people, size=people)
        ours, theirs = (each.chosen(drawn).row(size) for each in (its, reference))
        again.append([ours[name] - theirs[name] for name in ('ap', 'pck')])
    spread = np.nanstd(again, axis=0)
    ours, theirs = its.row(size), reference.row(size)
    return {f'{name}_{what}': float(value) for name, deviation in zip(('ap', 'pck'), spread)
            for what, value in (('change', ours[name] - theirs[name]), ('spread', deviation))}


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(title=f'{report["samples"]} held-out people, percent', box=SIMPLE_HEAD)
    for name in ('engine', 'crop', 'person px', 'AP', 'AP50', 'AP75', 'AR', f'PCK@{PCK_SHARE}'):
        table.add_column(name, justify='left' if name == 'engine' else 'right')
    for row in report['rows']:
        table.add_row(
            row['engine'], str(row['crop']), str(row['pixels']), _cell(row, 'ap'),
            *(f'{row[name]:.1f}' for name in ('ap50', 'ap75', 'ar')), _cell(row, 'pck'))
    console.print(table)
    if 'real' in report:
        show_real(report['real'], console)


def show_real(real: dict[str, Any], console: Console) -> None:
    """Print what is found of real people as a table."""
    table = Table(title=f'{real["people"]} real people, percent', box=SIMPLE_HEAD)
    for name in ('engine', 'person px', 'joints', f'PCK@{PCK_SHARE}'):
        table.add_column(name, justify='left' if name == 'engine' else 'right')
    for row in real['rows']:
        table.add_row(row['engine'], str(row['pixels']), str(row['joints']), f'{row["pck"]:.1f}')
    console.print(table)


def _cell(row: dict[str, Any], name: str) -> str:
    text = f'{row[name]:.1f}'
    if f'{name}_change' not in row:
        return text
    return f'{text} ({row[f"{name}_change"]:+.1f} ± {row[f"{name}_spread"]:.1f})'
