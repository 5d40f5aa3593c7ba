K=$1; I=$2; shift 2
qemu-system-x86_64 -nodefaults -global kvm-apic.vapic=off -global kvm-apic.vapic=off -no-user-config -display none -machine q35 -accel kvm -cpu host -m ${M:-256} -kernel $K -initrd $I -append "console=ttyS0 quiet $*" -serial stdio -no-reboot
