# SPDX-License-Identifier: Apache-2.0
"""Synthetic people, losses, trainers and export."""
