# SPDX-License-Identifier: Apache-2.0
"""The command line of a machine's emulator."""

from . import disks, guests, host, image, paths
from .kernels import kernel

# no_timer_check: with QEMU 10's AMD IOMMU the kernel's first look at the timer finds no interrupts yet.
COMMAND_LINE = ("console=ttyS0 quiet panic=1 tsc=reliable mitigations=off nokaslr "
                "random.trust_cpu=on iommu=pt no_timer_check")


def _command_line():
    """A kernel finds out how fast its TSC is by a timer that a busy computer emulates late: one was off by five, and guests
    cannot move between two that differ."""
    return COMMAND_LINE if host.has_real_kvm() else f"{COMMAND_LINE} tsc_early_khz={host.tsc_khz()}"


def command(machine):
    """Writes what the machine starts from into its folder, and returns how to start it."""
    options = machine.lab.options
    folder = machine.folder
    acceleration, kvm_module = host.accelerator()
    debian = kernel("linux-image-amd64")
    image.write(folder / "initrd", machine, debian, image.modules_for(options, kvm_module))
    return [host.emulator()[0], "-name", f"{machine.lab.name}-{machine.name}", "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot",
            # Remapped interrupts need an irqchip that is not all in the host's kernel.
            "-machine", "q35,kernel-irqchip=split" if "kvm" in acceleration else "q35",
            *acceleration, "-smp", str(options["cpus"]), "-m", str(options["memory"]),
            "-kernel", str(debian.image), "-initrd", str(folder / "initrd"),
            "-append", _command_line(), "-serial", f"file:{folder}/console.log",
            "-qmp", f"unix:{folder}/qmp,server=on,wait=off",
            "-device", "amd-iommu,intremap=on", "-device", "virtio-rng-pci",
            *_shares(), *_ports(machine), *_disks(machine),
            *machine.lab.wires.emulator_options(machine), *_nic(machine)]


def _share(tag, folder):
    path = str(folder).replace(",", ",,")
    return ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on,"
                      "multidevs=remap",
            "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]


def _shares():
    build = image.separate_build()
    return [*_share("root", "/"), *_share("tree", paths.TREE),
            *_share("cache", paths.cache_directory()), *(_share("build", build) if build else [])]


def _ports(machine):
    options = ["-device", f"virtio-serial-pci,max_ports={machine.ports + 1}"]
    for number in range(machine.ports):
        options += ["-chardev", f"socket,id=port{number},path={machine.folder}/port.{number},"
                                "server=on,wait=off",
                    "-device", f"virtserialport,chardev=port{number},name=lab.{number}"]
    return options


def _disks(machine):
    options = machine.lab.options
    scratch = machine.folder / "scratch"
    scratch.unlink(missing_ok=True)
    result = disks.virtio(disks.scratch(scratch), "scratch")
    for serial, file in guests.disks_built():
        result += disks.virtio(file, serial, throw_away=True)
    if options["nvme"]:
        file = disks.blank(machine.folder / "nvme", disks.NVME_SIZE)
        result += disks.nvme(file, f"nvme-{machine.name}")
    result += [*machine.state_disk.node(machine), *disks.virtio_card(machine.state_disk.name)]
    if shared := machine.lab.shared_disk:
        result += [*shared.node(machine), *disks.nvme_card(shared.name)]
    return result


def _nic(machine):
    if not machine.lab.options["nic"]:
        return []
    return ["-netdev", "user,id=nic,restrict=on",
            "-device", f"e1000e,netdev=nic,mac={machine.nic_mac}"]
