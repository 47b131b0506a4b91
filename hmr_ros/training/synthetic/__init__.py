# SPDX-License-Identifier: Apache-2.0
"""Labelled pictures of people who do not exist, made from the open body."""

from hmr_ros.training.synthetic.contact_sheet import contact_sheet
from hmr_ros.training.synthetic.cutouts import CutoutStore, render_cutouts
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.generator import SyntheticPeople
from hmr_ros.training.synthetic.painter import CLEAN, Recipe
from hmr_ros.training.synthetic.population import Population
from hmr_ros.training.synthetic.scene import Scene, render_scene, walk_clip
from hmr_ros.training.synthetic.sequences import render_sequences

__all__ = [
    'CLEAN', 'CutoutStore', 'Population', 'Recipe', 'Scene', 'SyntheticError', 'SyntheticPeople',
    'contact_sheet', 'render_cutouts', 'render_scene', 'render_sequences', 'walk_clip']
