# SPDX-License-Identifier: Apache-2.0
"""Unit tests that work with a real KVM, on the kernel of Debian 12: the computer that builds may have another KVM, or none."""

import pytest

from labkit.paths import build_directory

NOT_HERE = 77   # a test program's exit status: it cannot be tested here, and it says why


@pytest.fixture
def huge_pages(host):
    """Some for the guests of the tests; the machine is left as it was."""
    host.sh("echo 32 >/proc/sys/vm/nr_hugepages")
    try:
        yield
    finally:
        host.sh("echo 0 >/proc/sys/vm/nr_hugepages")


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("name", ["cpu-state-kvm", "vm-time-kvm", "memory-backings"])
def test_passes_on_this_kernel(host, name):
    program = build_directory() / "tests/unit" / f"test-{name}"
    assert program.exists(), f"{program} is not built: ninja -C {build_directory()}"
    # A copy in memory, as of the programs (vms.py): a build that goes on meanwhile does not change it.
    result = host.run(f"cp {program} {host.programs}/ && {host.programs}/{program.name}; "
                      f"status=$?; rm -f {host.programs}/{program.name}; exit $status", check=False)
    said = result.stdout.decode(errors="replace") + result.stderr.decode(errors="replace")
    if result.returncode == NOT_HERE:
        assert said.strip(), f"{name} gives no reason for not testing here"
        pytest.skip(said.strip().splitlines()[-1])
    assert result.returncode == 0, said[-3000:]
    assert "SKIPPED" not in said, said[-3000:]     # this machine has all that they need
