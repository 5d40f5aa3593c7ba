# SPDX-License-Identifier: Apache-2.0
"""The peers' command lines: THE file to review for fairness.

Each is tuned as those who know it would, for the same VM on the same machine: no device that the
VM does not use; an I/O thread of its own for each disk, io_uring, no page cache of the host between
(the guest's flushes stay flushes); a queue for each vCPU; the virtio 1.x interface.
"""


class Qemu:
    """Debian 12's QEMU 7.2, with one of its machines."""

    def __init__(self, machine="q35", irqchip="on"):
        self.machine = machine
        self.irqchip = irqchip      # "on": the IOAPIC in the kernel too; "split": in QEMU, as ours
        self.name = f"qemu 7.2 {machine}"

    def command(self, vm, _programs, _name):
        command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
                   "-no-reboot", "-serial", "stdio", "-machine", self._machine(), "-cpu", "host",
                   "-smp", str(vm.cpus), "-m", f"{vm.memory}M", "-kernel", vm.kernel,
                   "-append", vm.cmdline]
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
        vhost = "on" if vm.vhost else "off"
        return ["-netdev", f"tap,id=net{number},ifname={tap},script=no,downscript=no,vhost={vhost}",
                "-device", f"{self._virtio('net')},netdev=net{number},rx_queue_size=1024,romfile="]
