# SPDX-License-Identifier: Apache-2.0
"""Every promise as a measured ratio against a peer in the same run.

frame.py      the table of benchmarks, paired runs, the JSON lines
stage.py      the lab machine in which both monitors run, the guest, disks, taps
monitors.py   a VM described once, and the command line that runs it on utsusu
peers.py      the same on the peer: the one file to review for fairness
inside.py     runs in the machine: starts a monitor, takes times, reads traces and memory
boot.py ...   the benchmarks, one file for each group of promises
"""
