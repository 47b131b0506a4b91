# SPDX-License-Identifier: Apache-2.0
"""The body model at run time and the files it is read from."""
