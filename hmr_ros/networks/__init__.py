# SPDX-License-Identifier: Apache-2.0
"""The published systems as torch modules, one folder each."""
