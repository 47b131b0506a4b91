# SPDX-License-Identifier: Apache-2.0
"""Engines: one interface, several backends, and the manifest of shipped networks."""
