# SPDX-License-Identifier: Apache-2.0
"""The peers' command lines: THE file to review for fairness.

Each is tuned as those who know it would, for the same VM on the same machine: no device that the
VM does not use; an I/O thread of its own for each disk, io_uring, no page cache of the host between
(the guest's flushes stay flushes); a queue for each vCPU; the virtio 1.x interface.

Moves: several channels (multifd), auto-converge so that a busy guest comes to an end, no bound on the bandwidth (the default
is 1 Gb/s), the same goal for the downtime as ours, vhost for the network, memory of the guest as it is by default (which
becomes transparent huge pages). Compression is off, as it is unless asked for; whether multifd's zstd helps it here was not measured.
"""

# utsusu's default.
DOWNTIME_MS = 100
MOVE_PORT = 4444
KEY = "5f0e8a6c1f2b4d7e9a3c5b7d9e1f3a5c7b9d1e3f5a7c9b1d3e5f7a9c1b3d5e7f"


class Qemu:
    """Debian 12's QEMU 7.2, with one of its machines."""

    def __init__(self, machine="q35", irqchip="on", trace=False):
        self.machine = machine
        self.irqchip = irqchip      # "on": the IOAPIC in the kernel too; "split": in QEMU, as ours
        self.trace = trace          # all that it can tell of accesses and exits, into a file in memory
        self.name = f"qemu 7.2 {machine}" + (" traced" if trace else "")

    def command(self, vm, _programs, _name):
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                   "-no-reboot", "-serial", "stdio", "-machine", self._machine(), "-cpu", "host",
                   "-smp", str(vm.cpus), "-m", f"{vm.memory}M", "-kernel", vm.kernel,
                   "-append", vm.cmdline]
        if self.trace:
            command += ["-trace", "enable=memory_region_ops_*", "-trace", "enable=kvm_*", "-D", "/tmp/qemu.trace"]
        if vm.initrd:
            command += ["-initrd", vm.initrd]
        for number, disk in enumerate(vm.disks):
            command += self._disk(number, disk, vm)
        for number, tap in enumerate(vm.taps):
            command += self._net(number, tap, vm)
        return command

    def _machine(self):
        if self.machine == "microvm":
            # Its experts' advice: no option ROM, no legacy timer or interrupt controller, one clock
            # source by kvmclock; the serial line stays, as the guest's console is read from it.
            return "microvm,accel=kvm,x-option-roms=off,pit=off,pic=off,rtc=on,isa-serial=on"
        return (f"{self.machine},accel=kvm,kernel-irqchip={self.irqchip},vmport=off,hpet=off,"
                "smm=off,usb=off,sata=off,smbus=off")

    def _virtio(self, device):
        return f"virtio-{device}-" + ("device" if self.machine == "microvm" else "pci")

    def _disk(self, number, path, vm):
        driver = "host_device" if path.startswith("/dev/") else "file"
        return ["-object", f"iothread,id=io{number}",
                "-blockdev", f"driver=raw,node-name=disk{number},cache.direct=on,cache.no-flush=off,"
                             f"discard=unmap,file.driver={driver},file.filename={path},"
                             "file.aio=io_uring",
                "-device", f"{self._virtio('blk')},drive=disk{number},iothread=io{number},"
                           f"num-queues={vm.cpus},queue-size=256"]

    def _net(self, number, tap, vm):
        vhost = "on" if vm.vhost or vm.moves else "off"
        return ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no,vhost={vhost}",
                "-device", f"{self._virtio('net')},netdev=net{number},rx_queue_size=1024,romfile="]


class QemuMoves(Qemu):
    """The same between two machines."""

    def __init__(self, streams=2, tls=False):
        super().__init__("q35")
        self.streams = streams
        self.tls = tls
        self.name = f"qemu 7.2, {streams} channels" + (", TLS" if tls else "")

    def start(self, pair, vm):
        """Both ends; returns them as processes when the guest's console speaks and the other end listens."""
        ends = []
        for machine, incoming in ((pair.source, False), (pair.target, True)):
            if self.tls:
                machine.run(f"mkdir -p /tmp/psk && echo move:{KEY} >/tmp/psk/keys.psk")
            ends.append(machine.start_command(self._move_command(vm, incoming)))
        return ends

    def _move_command(self, vm, incoming):
        command = self.command(vm, None, None) + ["-qmp", "unix:/tmp/qmp,server=on,wait=off"]
        if vm.huge:
            command += ["-object", f"memory-backend-memfd,id=ram,size={vm.memory}M,hugetlb=on,hugetlbsize=2M,prealloc=on",
                        "-machine", "memory-backend=ram"]
        if self.tls:
            end = "server" if incoming else "client,username=move"
            command += ["-object", f"tls-creds-psk,id=tls0,endpoint={end},dir=/tmp/psk"]
        return command + (["-incoming", "defer"] if incoming else [])

    def _settings(self):
        capabilities = ["multifd", "auto-converge"]
        parameters = {"multifd-channels": self.streams, "max-bandwidth": 1 << 40, "downtime-limit": DOWNTIME_MS,
                      **({"tls-creds": "tls0"} if self.tls else {})}
        return [["migrate-set-capabilities", {"capabilities": [
                    {"capability": name, "state": True} for name in capabilities]}],
                ["migrate-set-parameters", parameters]]

    def order(self, pair, _vm):
        """For mover.py; the other end is made ready here."""
        listen = [*self._settings(), ["migrate-incoming", {"uri": f"tcp:0.0.0.0:{MOVE_PORT}"}]]
        pair.qmp(pair.target, "/tmp/qmp", listen)
        return {"qmp": "/tmp/qmp", "before": self._settings(), "uri": f"tcp:{pair.target.address}:{MOVE_PORT}"}

    def end(self, _pair, ends):
        for one in ends:
            one.kill()
            one.wait(30)
