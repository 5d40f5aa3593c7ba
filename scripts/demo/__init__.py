# SPDX-License-Identifier: Apache-2.0
"""The story that ./demo tells, and the two places where it can happen."""
