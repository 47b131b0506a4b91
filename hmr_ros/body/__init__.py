# SPDX-License-Identifier: Apache-2.0
"""The body model at run time and the files it is read from."""

from hmr_ros.body.loading import load_body
from hmr_ros.body.model import BodyError, BodyModel
from hmr_ros.body.texture_layout import load_texture_layout, TextureLayout
from hmr_ros.body.whole_body import load_whole_body, WholeBodyModel

__all__ = [
    'BodyError', 'BodyModel', 'TextureLayout', 'WholeBodyModel', 'load_body',
    'load_texture_layout', 'load_whole_body']
