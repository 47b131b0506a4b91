# SPDX-License-Identifier: Apache-2.0
"""The body model at run time and the files it is read from."""

from hmr_ros.body.loading import load_body
from hmr_ros.body.model import BodyError, BodyModel

__all__ = ['BodyError', 'BodyModel', 'load_body']
