# SPDX-License-Identifier: Apache-2.0
"""A real etcd of a test: members on loopback, their certificates, their users."""

import base64
import ctypes
import json
import os
import signal
import ssl
import subprocess
import urllib.request

from peer_hosts import hold_port

ETCD = "/usr/bin/etcd"
WAIT = 20
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def make_certificates(folder):
    """An authority, a certificate of all members, and an authority that nobody knows."""
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder, timeout=WAIT)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                f"/CN=test {name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=etcd", "-keyout",
            "member.key", "-out", "member.csr")
    with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=IP:127.0.0.1,DNS:etcd.test\n")
    openssl("x509", "-req", "-in", "member.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "member.crt")


class Member:
    """One etcd. Its ports stay its own while it is down."""

    def __init__(self, folder, name):
        self.name, self.folder, self.process = name, folder, None
        self.held = [hold_port(), hold_port()]
        self.port, self.peer_port = (held.getsockname()[1] for held in self.held)
        self.url, self.peer_url = f"https://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"

    def start(self, members, **more):
        words = {
            "name": self.name, "data-dir": os.path.join(self.folder, self.name), "initial-cluster-state": "new",
            "initial-cluster": ",".join(f"{one.name}={one.peer_url}" for one in members),
            "initial-cluster-token": f"test-{self.peer_port}" if len(members) == 1 else "test",
            "listen-client-urls": self.url, "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url, "initial-advertise-peer-urls": self.peer_url,
            "cert-file": os.path.join(self.folder, "member.crt"), "key-file": os.path.join(self.folder, "member.key"),
            "heartbeat-interval": "50", "election-timeout": "500", "bcrypt-cost": "4", "logger": "zap", **more,
        }
        with open(os.path.join(self.folder, self.name + ".log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [ETCD, *(f"--{key}={value}" for key, value in words.items())], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={"PATH": os.environ["PATH"], "GOMAXPROCS": "2"}, preexec_fn=end_with_parent)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(WAIT)
            self.process = None

    def close(self):
        self.kill()
        for held in self.held:
            held.close()


def post(context, member, path, body):
    request = urllib.request.Request(member.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=WAIT, context=context) as answer:
        return json.load(answer)


def trust(folder):
    return ssl.create_default_context(cafile=os.path.join(folder, "ca.crt"))


def make_users(context, member):
    """Authentication, with a user that may touch records and nothing else."""
    def key(text):
        return base64.b64encode(text.encode()).decode()

    for name in "root", "vm":
        post(context, member, "/v3/auth/user/add", {"name": name, "password": "secret"})
        post(context, member, "/v3/auth/role/add", {"name": name})
        post(context, member, "/v3/auth/user/grant", {"user": name, "role": name})
    post(context, member, "/v3/auth/role/grant", {"name": "vm", "perm": {
        "permType": "READWRITE", "key": key("/utsusu/1/vm/"), "range_end": key("/utsusu/1/vm0")}})
    post(context, member, "/v3/auth/enable", {})
