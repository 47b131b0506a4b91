# SPDX-License-Identifier: Apache-2.0
# Source folder, pip-installed core and generated messages may lie apart: join them.
__path__ = __import__('pkgutil').extend_path(__path__, __name__)
