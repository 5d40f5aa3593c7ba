# SPDX-License-Identifier: Apache-2.0
"""What a measurement that comes to nothing ends with."""


class Failure(Exception):
    """A measurement that did not come to its end."""
