# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures of people who do not exist, made from the open body."""

from hmr_ros.training.synthetic.cutouts import CutoutStore, render_cutouts
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.generator import CLEAN, Recipe, SyntheticPeople

__all__ = [
    'CLEAN', 'CutoutStore', 'Recipe', 'SyntheticError', 'SyntheticPeople', 'render_cutouts']
