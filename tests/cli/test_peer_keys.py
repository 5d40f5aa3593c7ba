#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Who knows whom: a host's key, its peers and its daemon. test_peer_keys.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer_hosts import BUSY, FAILED, HOST, NOT_FOUND, RESOURCE, USAGE, WAIT, Case, hold_port, start  # noqa: E402  pylint: disable=wrong-import-position


class Peers(Case):
    def test_a_peer_is_pinned_by_its_key(self):
        address = f"127.0.0.1:{self.beta.port}"
        done = self.bad(USAGE, self.beta.fingerprint, self.alpha, "peer", "add", "beta", address)
        self.assertIn("utsusu peer show", done.stderr)
        self.bad(RESOURCE, "not the one given", self.alpha, "peer", "add", "beta", address, "--fingerprint",
                 self.alpha.fingerprint)
        self.assertEqual(self.alpha.says("peer", "list"), [])
        done = self.good(self.alpha, "peer", "add", "beta", address, "--fingerprint", self.beta.fingerprint)
        self.assertIn(f"--fingerprint {self.alpha.fingerprint}", done.stdout)
        self.assertEqual(self.alpha.says("peer", "list")[0]["fingerprint"], self.beta.fingerprint)
        self.bad(BUSY, "there is a peer of this name", self.alpha, "peer", "add", "beta", address, "--fingerprint",
                 self.beta.fingerprint)
        self.bad(NOT_FOUND, "did you mean beta?", self.alpha, "peer", "remove", "bet")
        self.good(self.alpha, "peer", "remove", "beta")
        self.assertEqual(self.alpha.says("peer", "list"), [])

    def test_a_person_is_asked_whether_the_key_is_right(self):
        words = "peer", "add", "beta", f"127.0.0.1:{self.beta.port}"
        status, shown = self.alpha.on_terminal(b"no\n", *words)
        self.assertEqual((status, self.alpha.says("peer", "list")), (FAILED, []))
        self.assertIn(self.beta.fingerprint, shown)
        self.assertIn("was not added", shown)
        status, shown = self.alpha.on_terminal(b"yes\n", *words)
        self.assertEqual((status, len(self.alpha.says("peer", "list"))), (0, 1), shown)

    def test_this_host_is_no_peer(self):
        self.bad(USAGE, "this host itself", self.alpha, "peer", "add", "me", f"127.0.0.1:{self.alpha.port}",
                 "--fingerprint", self.alpha.fingerprint)

    def test_a_key_is_made_once(self):
        again = self.alpha.run_daemon("init")
        self.assertEqual(again.returncode, BUSY)
        self.assertIn("--anew", again.stderr)
        mode = os.stat(os.path.join(self.alpha.state, "host.key")).st_mode & 0o777
        self.assertEqual((mode, os.stat(self.alpha.state).st_mode & 0o777), (0o600, 0o700))

    def test_one_daemon_for_a_host(self):
        with hold_port() as held:
            again = self.alpha.run_daemon("--port", str(held.getsockname()[1]))
        self.assertEqual(again.returncode, BUSY)
        self.assertIn("runs already", again.stderr)

    def test_what_a_killed_handler_left_goes_with_the_next_daemon(self):
        self.alpha.stop()
        folder, name = os.path.join(self.alpha.runtime, ".utsusud"), "ab" * 32
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
            left.bind(f"/proc/self/fd/{fd}/{name}")     # an address holds 107 bytes
        os.close(fd)
        self.assertIn(name, os.listdir(folder))
        self.alpha.start()
        self.assertNotIn(name, os.listdir(folder))

    def test_without_a_daemon_the_way_out_is_told(self):
        self.alpha.stop()
        self.bad(HOST, "systemctl enable --now utsusud", self.alpha, "peer", "list")

    def test_bad_words(self):
        for status, message, *words in (
                (USAGE, "add, list, remove or show", "peer"),
                (USAGE, "add, list, remove or show", "peer", "ad"),
                (USAGE, "add NAME ADDRESS", "peer", "add", "beta"),
                (USAGE, "no address", "peer", "add", "beta", "host:0"),
                (USAGE, "no name of a host", "peer", "add", "-", "host"),
                (USAGE, "together", "peer", "add", "beta", "host", "--ca", "/ca.pem"),
                (USAGE, "the opposite", "resolve", "web", "--run-here", "--declare-lost-here"),
                (NOT_FOUND, "no such VM", "move", "web", "beta")):
            done = self.bad(status, message, self.alpha, *words)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_strangers_get_no_further(self):
        """Noise, half a handshake, a stream that nobody waits for: each is refused, and the daemon serves on."""
        for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"UTSUJOIN" + b"\0" * 68,
                      b"UTSUJOIN" + b"\xff" * 68):
            with socket.create_connection(("127.0.0.1", self.beta.port), WAIT) as one:
                one.sendall(noise)
                one.settimeout(WAIT)
                try:
                    while one.recv(1000):
                        pass
                except ConnectionError:
                    pass
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.assertRaises((ssl.SSLError, ConnectionError)):  # no certificate of its own
            with socket.create_connection(("127.0.0.1", self.beta.port), WAIT) as one:
                with context.wrap_socket(one) as secure:
                    secure.settimeout(WAIT)
                    if not secure.recv(1000):
                        raise ConnectionError
        self.introduce()


class Signed(Case):
    """An authority in place of pinned keys."""

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.work, timeout=WAIT)

    def sign(self, host, name):
        with open(os.path.join(self.work, "names"), "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=DNS:{name}\n")
        self.openssl("req", "-new", "-key", os.path.join(host.state, "host.key"), "-subj", f"/CN={name}", "-out", "csr")
        self.openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                     "-extfile", "names", "-out", os.path.join(host.state, "host.crt"))

    def know_signed(self, host, other, identity):
        self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--ca",
                  os.path.join(self.work, "ca.pem"), "--identity", identity)

    @unittest.skipUnless(shutil.which("openssl"), "needs openssl")
    def test_signed_is_not_enough(self):
        self.openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                     "-subj", "/CN=authority")
        self.sign(self.alpha, "alpha.example")
        self.sign(self.beta, "beta.example")
        self.know_signed(self.beta, self.alpha, "alpha.example")
        self.know_signed(self.alpha, self.beta, "gamma.example")
        start(self.alpha)
        self.bad(RESOURCE, "is not signed as gamma.example", self.alpha, "move", "web", "beta", "--check")
        self.good(self.alpha, "peer", "remove", "beta")
        self.know_signed(self.alpha, self.beta, "beta.example")
        self.good(self.alpha, "move", "web", "beta", "--check")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
