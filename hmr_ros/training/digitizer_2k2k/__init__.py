# SPDX-License-Identifier: Apache-2.0
"""Weights of digitizer_2k2k: their files, and the authors' checkpoints."""
