# SPDX-License-Identifier: Apache-2.0
"""The program behind ./check: suites of tests, run one after the other and counted together."""
