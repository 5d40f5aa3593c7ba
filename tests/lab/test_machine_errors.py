# SPDX-License-Identifier: Apache-2.0
"""What cannot run is refused in one line that names key, cause and way out; nothing is left of it."""

import json

import pytest

USAGE, MACHINE, RESOURCE = 2, 3, 4      # exit statuses of the manual
USER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", "UTSUSU_RUNTIME_DIR=/tmp/nobody"]


def with_option(host, *options):
    return ["run", "bad", *host.arguments(options)]


@pytest.fixture
def kernels(host):
    """Files that are no kernel, or only the beginning of one."""
    kernel = host.arguments([])[1]
    host.sh(f"mkdir /tmp/k && cd /tmp/k && echo text >text && : >empty && head -c 65536 /dev/urandom >noise && "
            f"head -c 20000 {kernel} >short && head -c 4096 /bin/true >elf && mkdir folder && cp {kernel} secret && "
            "chmod 600 secret")
    yield "/tmp/k"
    host.sh("rm -r /tmp/k")


@pytest.mark.parametrize("name, status", [
    ("missing", RESOURCE), ("text", RESOURCE), ("empty", RESOURCE), ("noise", RESOURCE), ("short", RESOURCE),
    ("elf", RESOURCE), ("folder", RESOURCE),
])
def test_kernel_that_is_none(host, kernels, name, status):
    line = host.refused(*with_option(host, "--kernel", f"{kernels}/{name}"), status=status)
    assert "kernel" in line and name in line, line


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
def test_kernel_that_is_none_in_the_background(host, kernels, detach):
    line = host.refused(*with_option(host, "--kernel", f"{kernels}/noise", *detach), status=RESOURCE)
    assert "noise" in line


@pytest.mark.parametrize("options, status, words", [
    (["--initrd", "/nowhere"], RESOURCE, ["initrd", "/nowhere"]),
    (["--disk", "path=/nowhere"], RESOURCE, ["disk", "/nowhere"]),
    (["--disk", "path=/tmp"], RESOURCE, ["disk", "/tmp"]),
    (["--disk", "path=/dev/null"], RESOURCE, ["disk", "/dev/null"]),
    (["--disk", "pat=/tmp/x"], USAGE, ["pat", "path"]),
    (["--disk", "readonly"], USAGE, ["disk", "path"]),
    (["--net", "tap=lo"], RESOURCE, ["net", "lo"]),
    (["--net", "tap=a,user"], USAGE, ["net"]),
    (["--net", "fd=77"], RESOURCE, ["net", "77"]),
    (["--net", "user,vhost=on"], USAGE, ["vhost"]),
    (["--cpus", "0"], USAGE, ["cpus"]),
    (["--cpus", "65"], USAGE, ["cpus"]),
    (["--cpus", "4,max=2"], USAGE, ["cpus", "max"]),
    (["--memory", "1M"], USAGE, ["memory"]),
    (["--memory", "12cats"], USAGE, ["memory"]),
    (["--memory", "33M"], USAGE, ["memory"]),
    (["--console", "printer"], USAGE, ["console", "printer"]),
    (["--config", "/nowhere"], RESOURCE, ["config", "/nowhere"]),
    (["--colour", "red"], USAGE, ["colour"]),
], ids=lambda value: "-".join(value) if isinstance(value, list) and str(value[0]).startswith("--") else "")
def test_refused(host, options, status, words):
    line = host.refused(*with_option(host, *options), status=status)
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("name", ["Capital", "-dash", "a/b", "..", "x" * 64])
def test_names(host, name):
    result = host.utsusu("run", "--check", *host.arguments([]), "--", name, check=False)
    assert result.returncode == USAGE and b"\n" in result.stderr


@pytest.mark.parametrize("text, word", [
    ("{", "json"), ('{"colour": 1}', "colour"), ('{"cpus": {"count": "two"}}', "count"), ('{"memory": 7.5}', "memory"),
    ('{"kernel": "a", "kernel": "b"}', "kernel"), ("[]", "object"), ('{"disk": {}}', "disk"),
])
def test_configuration_file(host, text, word):
    host.run(["tee", "/tmp/bad.json"], input=text)
    result = host.utsusu("run", "bad", "--config", "/tmp/bad.json", check=False)
    assert result.returncode == USAGE, result
    line = result.stderr.decode()
    assert line.count("\n") == 1 and "/tmp/bad.json" in line and word in line.lower(), line
    host.run(["rm", "/tmp/bad.json"])


def test_disk_that_is_no_whole_number_of_sectors(host):
    with host.folder() as folder:
        host.sh(f"head -c 1000 /dev/zero >{folder}/odd")
        line = host.refused(*with_option(host, "--disk", f"path={folder}/odd"), status=RESOURCE)
        assert "odd" in line and "512" in line


def test_same_disk_twice(host):
    with host.folder() as folder:
        host.sh(f"truncate -s 1M {folder}/d && ln -s d {folder}/e")
        line = host.refused(*with_option(host, "--disk", f"path={folder}/d", "--disk", f"path={folder}/e"),
                            status=RESOURCE)
        assert f"{folder}/d" in line and f"{folder}/e" in line


@pytest.mark.parametrize("spec", ["explode", "delay:weeks=1", "fail:every=none"])
def test_filter_that_is_none(host, spec):
    with host.folder() as folder:
        host.sh(f"truncate -s 1M {folder}/d")
        result = host.utsusu(*with_option(host, "--disk", f"path={folder}/d,filter={spec}"), check=False)
        line = result.stderr.decode()
        assert result.returncode in (USAGE, RESOURCE) and "filter" in line and line.count("\n") == 1, result


def test_disk_without_the_right_to_write(host):
    with host.folder() as folder:
        host.sh(f"truncate -s 1M {folder}/d && chmod 444 {folder}/d && chmod 755 {folder}")
        result = host.run([*USER, f"{host.programs}/utsusu", "run", "bad", "--check",
                           *host.arguments(["--kernel", "/bin/true", "--initrd", "/bin/true",
                                            "--disk", f"path={folder}/d"])], check=False)
        text = result.stderr.decode()
        assert f"{folder}/d" in text and "readonly" in text, text


def test_no_right_to_kvm(host):
    """An ordinary user that is not in the group of /dev/kvm."""
    host.sh("chmod 660 /dev/kvm; mkdir -p /tmp/nobody && chown nobody /tmp/nobody && chmod 700 /tmp/nobody")
    try:
        result = host.run([*USER, f"{host.programs}/utsusu", "run", "bad", "--kernel", "/etc/hostname"],
                          check=False)
        line = result.stderr.decode()
        assert result.returncode == MACHINE and line.count("\n") == 1, (result.returncode, line)
        assert "/dev/kvm" in line and "usermod -aG kvm" in line, line
        assert host.sh("ls -A /tmp/nobody").strip() == ""
    finally:
        host.sh("chmod 666 /dev/kvm; rm -r /tmp/nobody")


def test_no_right_to_the_tap(host):
    host.sh("mkdir -p /tmp/nobody && chown nobody /tmp/nobody && chmod 700 /tmp/nobody")
    try:
        with host.tap("e0", user="root"):
            result = host.run([*USER, f"{host.programs}/utsusu", "run", "bad", "--check", "--kernel",
                               "/etc/hostname", "--net", "tap=e0"], check=False)
        line = result.stderr.decode()
        assert result.returncode == RESOURCE, result
        assert "tap=e0: it belongs to another user" in line and "ip tuntap add" in line, line
    finally:
        host.sh("rm -r /tmp/nobody")


def test_no_right_to_make_a_tap(host):
    result = host.run([*USER, f"{host.programs}/utsusu", "run", "bad", "--check", "--kernel",
                       "/etc/hostname", "--net", "tap=nosuchtap"], check=False)
    line = result.stderr.decode()
    assert result.returncode == RESOURCE, result
    assert "there is no such tap" in line and "ip tuntap add nosuchtap" in line, line


def test_tap_in_use(host):
    with host.tap("e0"):
        name = host.detach("--net", "tap=e0")
        result = host.utsusu(*with_option(host, "--net", "tap=e0"), check=False)
        line = result.stderr.decode()
        assert result.returncode in (RESOURCE, 5) and "e0" in line and line.count("\n") == 1, result
        host.utsusu("stop", name, "--force")
        host.until(lambda: name not in host.list(), what="gone")


def test_memory_that_the_machine_has_not(host):
    line = host.refused(*with_option(host, "--memory", "900G"), status=MACHINE)
    assert "memory" in line, line


def test_initrd_larger_than_the_memory(host):
    host.sh("head -c 70M /dev/zero >/tmp/large")
    line = host.refused(*with_option(host, "--initrd", "/tmp/large", "--memory", "64M"), status=RESOURCE)
    assert "initrd" in line or "memory" in line, line
    host.sh("rm /tmp/large")


def test_check_lists_all_at_once(host):
    options = ["--disk", "path=/nowhere", "--net", "tap=lo", "--initrd", "/nowhere2"]
    result = host.utsusu(*with_option(host, *options), "--check", "--json", check=False)
    problems = json.loads(result.text)["problems"]
    assert len(problems) == 3 and result.returncode == problems[0]["status"], problems
    line = host.refused(*with_option(host, *options), status=problems[0]["status"])
    assert "2 more" in line


def test_check_makes_nothing(host):
    with host.folder() as folder:
        host.sh(f"truncate -s 1M {folder}/d")
        text = host.utsusu(*with_option(host, "--disk", f"path={folder}/d"), "--check").text
        assert "can run" in text
    assert host.leftovers() == []


@pytest.mark.parametrize("command", ["info", "console", "pause", "resume", "stop"])
def test_no_such_vm(host, command):
    line = host.refused(command, "nobody-there", status=6)
    assert "nobody-there" in line and "utsusu list" in line


def test_runtime_directory_of_others(host):
    host.sh("mkdir -m 777 /tmp/open")
    line = host.utsusu("list", check=False, env={"UTSUSU_RUNTIME_DIR": "/tmp/open"})
    assert line.returncode == MACHINE and b"/tmp/open" in line.stderr, line
    host.sh("rmdir /tmp/open")
