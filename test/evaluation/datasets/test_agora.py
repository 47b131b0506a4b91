# SPDX-License-Identifier: Apache-2.0
"""AGORA's tables are read without pandas, and hostile ones are refused."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
import pickle
import sys
from types import ModuleType
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from hmr_ros.evaluation.datasets import agora
from hmr_ros.evaluation.datasets.frames import read_frame
from hmr_ros.evaluation.errors import EvaluationError

#: two pictures with two people and one, by pandas 1.5.3: DataFrame.to_pickle, packed.
TABLE = zlib.decompress(base64.b85decode(
    'c-n<jPiqrF6i?Dkt+rT8QCk!#9;AYX*mzLT?qa2&(O7yAFJ+ibX8*Lin`LL#TCq@t)&vGbJ4I3yZ=MCeKtDkG0lf'
    '9(7x3ai&^I#;O*PV8nD^$l@6YeOoi}U7)-NNY9zGJ|sD^2wT2Dy9NpMI6KYkZ8Jgf9garvcK6_eaRp_>SPq1)V#7'
    ')c@=&_akK?2?2EK6EFjSC<~@J-G8T`yMFpZF=A$_%KSN*sm@H1liI@8lR5RFkaEo!!%$%P7=HVQBgvw^@y@0tukq'
    'tSB8QggV@SsQ<O97VkT>g*J55wmb38YHiS3K^EI{-%Sw38xgnYj{k@N8Z;48!a{o6xYAI)!u$wcdbYu2REq|H<U_'
    'M}{KG2DPcb*1*m8gU=iwsxJ$<-V5PI@DfhBw+FVJH$~Joo5O>KA{dHf8DsX!9U;QL$LOR)`~4baqo}2cH{FvLG55'
    'w0|?@RHk#ynF+<)dSfZM^GeITEiETLShAoa{flq+{noXN-)s5hqw)tHM~2vWr(H75ec95|`lLeiF2gAI>4rJi4;t'
    'p3@AapOGT3greS5e4V0ydNng)FuAalDlZk9?V6L8aU9Qc!KpmVc#;X31-il^-$7WjRJ7+=A62e39^-vIj#*bjL!E'
    'XV2pe<Qj>YSZ2JkX0&;T0jk&Fag*lz^(vR0_-MW7GSfwF+}pb2yyb=$7@5L06unj0BhtKp#>XL7~2ylBFpHW#Nc#'
    '#9?y4lHNZ6(>K<J4u(_(vUiJyhlOMWsn0Zp8k8$AFVE9~y7V9v%6ivZ)0Jcv_!l;luxe>{GqLOaN30UOgz4#?Kaw'
    'WleDZ5B{&nqxa3?~eRi5ryFV<=WC1eC0bN#p|84-7HfOtOg1ErmkDu&QbSrV=v-_s^=}{m2QhtJJeN2<poe)zTPd'
    '7BhkZY!kSA8Z@;Fe*jU{)Xx'))
MESH = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / 'validation_0_withjv.pkl').write_bytes(TABLE)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'ag_0001.png'), np.zeros((540, 960, 3), np.uint8))
    cv2.imwrite(str(tmp_path / 'images' / 'ag_0002_1280x720.png'),
                np.zeros((720, 1280, 3), np.uint8))
    return tmp_path


def test_people_that_count_are_read(folder: Path) -> None:
    first, second = agora.read(folder)
    np.testing.assert_array_equal(first.vertices, MESH)
    np.testing.assert_array_equal(second.vertices, MESH + 2)
    assert (first.person_id, second.file.name) == ('0', 'ag_0002_1280x720.png')
    # Labels are in pixels of 3840 columns; the box has a border of a tenth of its height.
    np.testing.assert_allclose(
        first.box, (np.array([1000, 600, 1400, 1800]) + 120 * np.array([-1, -1, 1, 1])) / 4)
    np.testing.assert_allclose(
        second.box, (np.array([1200, 800, 1600, 2000]) + 120 * np.array([-1, -1, 1, 1])) / 3)


def test_tables_of_older_pandas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 1.3 a manager's state was a tuple whose last entry had all."""
    classes = {}
    for parent in ('pandas', 'pandas.core', 'pandas.core.internals', 'pandas.core.indexes'):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    for module, name in (('pandas.core.frame', 'DataFrame'),
                         ('pandas.core.internals.managers', 'BlockManager'),
                         ('pandas.core.indexes.base', 'Index')):
        stand_in = ModuleType(module)
        classes[name] = type(name, (), {'__module__': module,
                                        '__getstate__': lambda self: self.content})
        setattr(stand_in, name, classes[name])
        monkeypatch.setitem(sys.modules, module, stand_in)
    base = sys.modules['pandas.core.indexes.base']
    base._new_Index = lambda kind, content: content
    base._new_Index.__module__, base._new_Index.__qualname__ = base.__name__, '_new_Index'

    class Axis:
        def __reduce__(self) -> tuple[object, ...]:
            return base._new_Index, (classes['Index'], {'data': np.array(['a', 'b'], object)})
    manager, frame = classes['BlockManager'](), classes['DataFrame']()
    blocks = [{'values': np.array([[1.0, 2.0]]), 'mgr_locs': slice(1, 2, 1)},
              {'values': np.array([['x', 'y']], object), 'mgr_locs': np.array([0])}]
    manager.content = ([], [], [], {'0.14.1': {'axes': [Axis()], 'blocks': blocks}})
    frame.content = {'_data': manager, '_typ': 'dataframe'}
    (tmp_path / 'old.pkl').write_bytes(pickle.dumps(frame, protocol=4))
    found = read_frame(tmp_path / 'old.pkl')
    assert {name: column.tolist() for name, column in found.items()} == {
        'a': ['x', 'y'], 'b': [1.0, 2.0]}


class Harmful:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return print, ('run',)


@pytest.mark.parametrize(('content', 'message'), [
    (pickle.dumps(Harmful()), 'builtins.print'), (b'', 'refused'), (TABLE[:200], 'refused'),
    (pickle.dumps({'imgPath': []}), 'it holds a dict')])
def test_other_files_are_refused(content: bytes, message: str, folder: Path) -> None:
    (folder / 'validation_0_withjv.pkl').write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        list(agora.read(folder))


def test_missing_files_are_named(folder: Path) -> None:
    (folder / 'images' / 'ag_0002_1280x720.png').unlink()
    with pytest.raises(EvaluationError, match='ag_0002.png'):
        list(agora.read(folder))
    with pytest.raises(EvaluationError, match='withjv'):
        list(agora.read(folder / 'images'))


def test_predictions_have_one_pickle_for_each_person(tmp_path: Path) -> None:
    people = [('ag_0001.png', number, {'verts': MESH + number}) for number in range(2)]
    agora.write_predictions(tmp_path / 'predictions.zip', iter(people))
    with zipfile.ZipFile(tmp_path / 'predictions.zip') as archive:
        assert archive.namelist() == [
            f'predictions/ag_0001_personId_{number}.pkl' for number in range(2)]
        found = pickle.loads(archive.read(archive.namelist()[1]))
    np.testing.assert_array_equal(found['verts'], MESH + 1)
