# SPDX-License-Identifier: Apache-2.0
"""The one place the version is written in Python."""

__version__ = '0.1.0'
