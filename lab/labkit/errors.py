# SPDX-License-Identifier: Apache-2.0
"""The one error that the lab raises: what failed, why, and the way out, in one line."""


class LabError(Exception):
    def __init__(self, what, cause, way_out=None):
        super().__init__(f"{what}: {cause}" + (f"; {way_out}" if way_out else ""))
