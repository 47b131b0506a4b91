# SPDX-License-Identifier: Apache-2.0
"""Scans as endless torch datasets: small ones for the low networks, whole ones for the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from hmr_ros.perception.digitizer.alignment import align
from hmr_ros.perception.digitizer.frame import LOW, low_resolution
from hmr_ros.perception.digitizer.joints import Joints, JOINTS
from hmr_ros.perception.errors import PerceptionError
from hmr_ros.perception.simcc import mirrored_order
from hmr_ros.training.digitizer_2k2k.config import DigitizerConfig
from hmr_ros.training.digitizer_2k2k.guesses import OFFSET
from hmr_ros.training.digitizer_2k2k.scan_store import ScanStore
from hmr_ros.training.digitizer_2k2k.studio import Studio
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.turns import turn_of_worker

_MIRRORED = mirrored_order(JOINTS)
_FLIPPED = 0.5
#: spread of joints about the true ones as a share of the image's side, and how often some of one
#: hand or foot are not found.
_JITTER, _MISSING = 6 / 2048, 0.15
_LOSABLE = ((23, 24, 25, 26), (27, 28, 29, 30), (17, 18), (20, 21))

Row = dict[str, np.ndarray]


@dataclass(frozen=True)
class SmallScans:
    """
    Scans of N people at an eighth of the resolution.

    images  (N, s, s, 4) uint8: colours multiplied by the cover, cover
    depths  (N, 2, s, s) float32 D of front and back
    unit_m  (N,) float32
    """

    images: np.ndarray
    depths: np.ndarray
    unit_m: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def small_scans(config: DigitizerConfig) -> SmallScans:
    """Make all scans of the stores small, one store in memory at a time."""
    columns = ([], [], [])
    for path in config.stores:
        store = _opened(path, config)
        for index in range(len(store)):
            row = (_small_image(store.image(index)), np.stack([
                side[OFFSET::LOW, OFFSET::LOW] for side in (store.front(index), store.back(index))
                ]), store.unit_m[index])
            for column, value in zip(columns, row):
                column.append(value)
    return SmallScans(*map(np.stack, columns))


def _small_image(image: np.ndarray) -> np.ndarray:
    whole = image.astype(np.float32)
    whole[..., :3] *= whole[..., 3:] / 255
    return np.round(np.moveaxis(low_resolution(np.moveaxis(whole, 2, 0)), 0, 2)).astype(np.uint8)


def _opened(path: str, config: DigitizerConfig) -> ScanStore:
    """Load a store; TrainingError when its images have another size."""
    store = ScanStore.load(path)
    if store.resolution != config.resolution:
        raise TrainingError(
            f'{path} holds scans of {store.resolution} pixels; the training is of '
            f'{config.resolution}. Render with --size {config.resolution}')
    return store


class _Batches(IterableDataset):
    """Batches without end; batch i depends on the seed and i alone, and `first` is the first i."""

    def __init__(self, config: DigitizerConfig, people: int, first: int = 0) -> None:
        self.config, self.people, self.first = config, people, first
        self._studio = Studio(
            config.resolution, config.seed, config.photos, config.black)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Make every n-th batch, where n is the number of workers."""
        turn, workers = turn_of_worker()
        for index in itertools.count(self.first + turn, workers):
            rng = np.random.default_rng([self.config.seed, 29, index])
            rows = [self.row(int(i), rng)
                    for i in rng.integers(self.people, size=self.config.batch)]
            yield {name: torch.from_numpy(np.stack([row[name] for row in rows]))
                   for name in rows[0]}

    def row(self, index: int, rng: np.random.Generator) -> Row:
        """One sample of a person."""
        raise NotImplementedError


class SmallBatches(_Batches):
    """
    For the low networks.

    image (N, 3, s, s) float32, -1 to 1; depth (N, 2, s, s) float32 D; unit_m (N,) float32.
    """

    def __init__(self, config: DigitizerConfig, scans: SmallScans, first: int = 0) -> None:
        super().__init__(config, len(scans), first)
        self._scans = scans

    def row(self, index: int, rng: np.random.Generator) -> Row:
        """See SmallBatches."""
        scans = self._scans
        image = scans.images[index]
        row = {'image': self._studio.small_picture(image[..., :3], image[..., 3], rng),
               'depth': scans.depths[index], 'unit_m': scans.unit_m[index]}
        return mirrored(row) if rng.random() < _FLIPPED else row


class WholeBatches(_Batches):
    """
    For all other networks.

    image (N, 3, S, S) float32, -1 to 1; depth (N, 2, S, S) float32 D; joints (N, 31, 2) float32
    pixels; found (N, 31) bool; unit_m (N,) float32.
    """

    def __init__(self, config: DigitizerConfig, first: int = 0) -> None:
        """Raises TrainingError when nobody in the stores faces the camera."""
        self._stores = [_opened(path, config) for path in config.stores]
        self._rows = [(store, row) for store in self._stores for row in range(len(store))
                      if _faces(store.joints[row], store.resolution)]
        if not self._rows:
            raise TrainingError(
                f'nobody in {", ".join(config.stores)} faces the camera; parts cannot be placed')
        super().__init__(config, len(self._rows), first)

    def row(self, index: int, rng: np.random.Generator) -> Row:
        """See WholeBatches."""
        store, person = self._rows[index]
        joints, found = _as_detected(store.joints[person], store.resolution, rng)
        row = {'image': self._studio.picture(store.image(person), rng),
               'depth': np.stack([store.front(person), store.back(person)]),
               'joints': joints, 'found': found, 'unit_m': store.unit_m[person]}
        return mirrored(row) if rng.random() < _FLIPPED else row


def _faces(joints: np.ndarray, side: int) -> bool:
    try:
        align(Joints(joints), side)
    except PerceptionError:
        return False
    return True


def _as_detected(
        joints: np.ndarray, side: int,
        rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Joints `(31, 2)` as a detector might find them, and which it does `(31,)`."""
    found = np.ones(len(joints), bool)
    if rng.random() < _MISSING:
        found[list(_LOSABLE[rng.integers(len(_LOSABLE))])] = False
    moved = joints + rng.normal(0, _JITTER * side, joints.shape).astype(np.float32)
    # Somebody at the limit of what is taken for facing the camera stays on this side of it.
    return (moved if _faces(moved, side) else joints), found


def mirrored(row: Row) -> Row:
    """Mirror a sample; left and right joints change places."""
    side = row['image'].shape[-1]
    result = {**row, **{name: np.ascontiguousarray(row[name][..., ::-1])
                        for name in ('image', 'depth')}}
    if 'joints' in row:
        points = row['joints'][_MIRRORED]
        result['joints'] = np.stack([side - 1 - points[:, 0], points[:, 1]], 1)
        result['found'] = row['found'][_MIRRORED]
    return result


def training_loader(config: DigitizerConfig, workers: int, first: int = 0) -> DataLoader:
    """Return the loader from batch `first` on; `workers` processes make batches ahead of time."""
    batches = (SmallBatches(config, small_scans(config), first) if config.phase == 'low'
               else WholeBatches(config, first))
    return DataLoader(batches, batch_size=None, num_workers=workers,
                      prefetch_factor=4 if workers else None)
