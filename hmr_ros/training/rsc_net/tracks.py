# SPDX-License-Identifier: Apache-2.0
"""What an image engine says of filmed people, frame by frame, kept in a file (sheet 3.6)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
import hashlib
from pathlib import Path

import numpy as np
from rich.progress import Progress

from hmr_ros.evaluation.held_out import crops_of, truth_of
from hmr_ros.evaluation.prediction import coarsened, Crops, predict
from hmr_ros.evaluation.subject import Subject
from hmr_ros.perception import rotations
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.synthetic import CLEAN, CutoutStore, Recipe, SyntheticPeople

#: how films are seen: shares of the draw, and what a detector, a crowd and a lens do to them.
CONDITIONS: tuple[tuple[float, Recipe], ...] = (
    (0.35, replace(CLEAN, zoom=0.02, shift=0.01)),
    (0.25, replace(CLEAN, zoom=0.05, shift=0.025, noise=8.0)),
    (0.20, replace(CLEAN, zoom=0.03, shift=0.015, company_behind=1.0, compress=0.5, noise=8.0)),
    (0.20, replace(CLEAN, zoom=0.03, shift=0.015, occlude=0.7, company_front=0.5, noise=8.0)))
#: share of the films whose resolution changes on the way, and its range in pixels of the crop.
FAR_SHARE, FEWEST, MOST = 0.5, 24, 160
_BACKGROUNDS = 60


@dataclass(frozen=True)
class Tracks:
    """
    S films of T frames, float32: what the engine saw and what was there.

    feature   (S, T, F)         of the engine
    pose6d    (S, T, 144)       recovered rotations
    betas     (S, T, 10)        recovered shape
    rotmats   (S, T, 24, 3, 3)  true rotations
    shape     (S, 10)           true shape
    joints2d  (S, T, 24, 2)     true joints in the crop, -1 to 1
    """

    feature: np.ndarray
    pose6d: np.ndarray
    betas: np.ndarray
    rotmats: np.ndarray
    shape: np.ndarray
    joints2d: np.ndarray

    def __len__(self) -> int:
        return len(self.feature)

    def save(self, path: str | Path) -> None:
        """Write one .npz file; features as float16."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        np.savez(path, **{**arrays, 'feature': arrays['feature'].astype(np.float16)})

    @classmethod
    def load(cls, path: str | Path) -> Tracks:
        """Read a file of `save`; raises TrainingError when it is none."""
        try:
            with np.load(path) as file:
                return cls(**{f.name: file[f.name].astype(np.float32) for f in fields(cls)})
        except (OSError, KeyError, ValueError) as error:
            raise TrainingError(f'{path} is no file of tracks: {error}; remove it') from error

    @classmethod
    def join(cls, parts: list[Tracks]) -> Tracks:
        """Put tracks of equal length together."""
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts])
                      for f in fields(cls)})


def read_tracks(
        subject: Subject, stores: tuple[str, ...], frames: int, passes: int, seed: int,
        cache: Path) -> Tracks:
    """
    Tracks of every film of `stores`, each seen `passes` times under other conditions.

    They are recorded once and kept in the folder `cache`, by digest of engine and store.
    """
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for path in stores:
        for turn in range(passes):
            name = _digest(subject, path, frames, seed + turn)
            file = cache / f'tracks_{name}.npz'
            if not file.is_file():
                record(subject, CutoutStore.load(path), frames, seed + turn).save(file)
            parts.append(Tracks.load(file))
    return Tracks.join(parts)


def _digest(subject: Subject, path: str, frames: int, seed: int) -> str:
    entry, facts = getattr(subject.engine, 'entry', None), Path(path).stat()
    digest = hashlib.sha256(
        f'{entry and entry.sha256} {subject.body.sha256} {Path(path).name} {facts.st_size} '
        f'{frames} {seed} {CONDITIONS} {FAR_SHARE} {FEWEST} {MOST}'.encode())
    return digest.hexdigest()[:16]


def record(subject: Subject, store: CutoutStore, frames: int, seed: int) -> Tracks:
    """Run the engine over every film of a store of `render_sequences`."""
    if frames < 2 or len(store) % frames:
        raise TrainingError(
            f'a store of {len(store)} frames does not hold films of {frames} frames; give the '
            'frames that it was rendered with')
    sources = [SyntheticPeople(store, subject.settings.image_size, seed, recipe,
                               backgrounds=_BACKGROUNDS) for _, recipe in CONDITIONS]
    shares = np.float64([share for share, _ in CONDITIONS])
    films = []
    with Progress(transient=True) as progress:
        for film in progress.track(range(len(store) // frames), description='recording films'):
            rng = np.random.default_rng([seed, 5, film])
            people = sources[rng.choice(len(sources), p=shares / shares.sum())]
            films.append(_film(subject, people, film * frames, frames, rng))
    return Tracks.join(films)


def _film(
        subject: Subject, people: SyntheticPeople, first: int, frames: int,
        rng: np.random.Generator) -> Tracks:
    """One film: the background stays, the box shakes, the resolution may change."""
    paint = int(rng.integers(2 ** 32))
    rows = [people.frame(index, rng, np.random.default_rng(paint))
            for index in range(first, first + frames)]
    samples = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    crops = crops_of(samples)
    images = _from_afar(crops.images, rng)
    found = predict(subject.engine, subject.body, subject.settings,
                    Crops(images, crops.transforms, crops.cameras))
    truth = truth_of(samples, crops)
    half = 0.5 * people.size
    pose6d = rotations.matrix_to_6d(found.rotmats).reshape(frames, 144).astype(np.float32)
    return Tracks(
        found.feature[None], pose6d[None], found.betas[None], truth.rotmats[None],
        truth.betas[:1], ((samples['keypoints2d'][:, :24] - half) / half)[None])


def _from_afar(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let the resolution drift from one size to another, or leave it."""
    if rng.random() >= FAR_SHARE:
        return images
    ends = rng.uniform(np.log(FEWEST), np.log(MOST), 2)
    sizes = np.exp(np.linspace(*ends, len(images))).astype(int)
    return np.concatenate([
        coarsened(image[None], int(pixels)) for image, pixels in zip(images, sizes)])
