/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DSDT. One text for every VM: what varies is read from the parameter page (struct acpi_parameter_page in
 * boot/acpi.h), so that the AML is compiled once and never patched. The C preprocessor runs first (one macro for
 * each vCPU's device), then iasl with warnings as errors.
 */

/* A vCPU, made when it may ever be, and there when its bit of the present ones is set too. GED tells when those
 * change (ACPI 6.4, 8.4 and 5.6.9). */
#define CPU(name, id)                                           \
	If ((CPOS >> id) & 1)                                   \
	{                                                       \
		Device (name)                                   \
		{                                               \
			Name (_HID, "ACPI0007")                 \
			Name (_UID, id)                         \
			Method (_STA) { Return (CSTA (id)) }    \
			Method (_MAT) { Return (CMAT (id)) }    \
		}                                               \
	}

/* Notify: 1 device check (it came), 3 eject request (it shall go). */
#define CPU_CHANGED(name, id)                                          \
	If ((Local1 >> id) & 1)                                        \
	{                                                              \
		If ((Local0 >> id) & 1) { Notify (name, 1) }           \
		Else { Notify (name, 3) }                              \
	}

#define EACH_CPU(DO) \
	DO (C000, 0x00) DO (C001, 0x01) DO (C002, 0x02) DO (C003, 0x03) \
	DO (C004, 0x04) DO (C005, 0x05) DO (C006, 0x06) DO (C007, 0x07) \
	DO (C008, 0x08) DO (C009, 0x09) DO (C00A, 0x0A) DO (C00B, 0x0B) \
	DO (C00C, 0x0C) DO (C00D, 0x0D) DO (C00E, 0x0E) DO (C00F, 0x0F) \
	DO (C010, 0x10) DO (C011, 0x11) DO (C012, 0x12) DO (C013, 0x13) \
	DO (C014, 0x14) DO (C015, 0x15) DO (C016, 0x16) DO (C017, 0x17) \
	DO (C018, 0x18) DO (C019, 0x19) DO (C01A, 0x1A) DO (C01B, 0x1B) \
	DO (C01C, 0x1C) DO (C01D, 0x1D) DO (C01E, 0x1E) DO (C01F, 0x1F) \
	DO (C020, 0x20) DO (C021, 0x21) DO (C022, 0x22) DO (C023, 0x23) \
	DO (C024, 0x24) DO (C025, 0x25) DO (C026, 0x26) DO (C027, 0x27) \
	DO (C028, 0x28) DO (C029, 0x29) DO (C02A, 0x2A) DO (C02B, 0x2B) \
	DO (C02C, 0x2C) DO (C02D, 0x2D) DO (C02E, 0x2E) DO (C02F, 0x2F) \
	DO (C030, 0x30) DO (C031, 0x31) DO (C032, 0x32) DO (C033, 0x33) \
	DO (C034, 0x34) DO (C035, 0x35) DO (C036, 0x36) DO (C037, 0x37) \
	DO (C038, 0x38) DO (C039, 0x39) DO (C03A, 0x3A) DO (C03B, 0x3B) \
	DO (C03C, 0x3C) DO (C03D, 0x3D) DO (C03E, 0x3E) DO (C03F, 0x3F)

DefinitionBlock ("", "DSDT", 2, "UTSUSU", "UTSUSUVM", 1)
{
	OperationRegion (PRMS, SystemMemory, 0x000E0000, 0x60)
	Field (PRMS, DWordAcc, NoLock, Preserve)
	{
		Offset (0x08),
		CPOS, 64, /* vCPUs that may ever be */
		CPRE, 64, /* vCPUs that are there now */
		ECMB, 64,
		ECML, 64,
		P32B, 64,
		P32L, 64,
		P64B, 64,
		P64L, 64,
		GENA, 64,
		PIOB, 32,
		PIOL, 32,
		GEDP, 32,
		GEDI, 32,
	}

	/* S5, soft off: SLP_TYP 5 as device/power.h has it. */
	Name (\_S5, Package () { 5, 5, 0, 0 })

	Scope (\_SB)
	{
		/* vCPUs. */
		Method (CSTA, 1)
		{
			If ((CPRE >> Arg0) & 1) { Return (0x0F) }
			Return (0)
		}

		/* The MADT entry of a vCPU (ACPI 6.4, 5.2.12.2), for one that came later. */
		Method (CMAT, 1, Serialized)
		{
			Local0 = Buffer (8) { 0, 8, 0, 0, 0, 0, 0, 0 }
			Local0 [2] = Arg0
			Local0 [3] = Arg0
			Local0 [4] = (CPRE >> Arg0) & 1
			Return (Local0)
		}

		EACH_CPU (CPU)

		/* What CSCN saw last. */
		Name (CSAW, 0)
		Method (CSCN, 0, Serialized)
		{
			Local0 = CPRE
			Local1 = Local0 ^ CSAW
			CSAW = Local0
			EACH_CPU (CPU_CHANGED)
		}

		/* General event device: one interrupt; a port says what happened and is cleared by reading. */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			OperationRegion (STAT, SystemIO, GEDP, 1)
			Field (STAT, ByteAcc, NoLock, Preserve)
			{
				EVNT, 8,
			}
			Name (RBUF, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive, , , GINT) { 0 }
			})
			CreateDWordField (RBUF, GINT._INT, GSIN)
			Method (_INI)
			{
				CSAW = CPRE
			}
			Method (_CRS)
			{
				GSIN = GEDI
				Return (RBUF)
			}
			Method (_EVT, 1, Serialized)
			{
				Local0 = EVNT
				If (Local0 & 1) { CSCN () }
				If (Local0 & 2) { Notify (VGEN, 0x80) }
			}
		}

		/* Microsoft, "Virtual Machine Generation ID" (2012). */
		Device (VGEN)
		{
			Name (_HID, "UTSU0001")
			Name (_CID, Package () { "VM_Gen_Counter", "VMGENCTR" })
			Name (_DDN, "VM_Gen_Counter")
			Method (_STA)
			{
				If (GENA) { Return (0x0F) }
				Return (0)
			}
			Method (ADDR)
			{
				Local0 = Package (2) { 0, 0 }
				Local0 [0] = GENA & 0xFFFFFFFF
				Local0 [1] = GENA >> 32
				Return (Local0)
			}
		}

		/* ECAM is nobody's to use (PCI Firmware 3.3, 4.1.2). */
		Device (ECAM)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 1)
			Name (RBUF, ResourceTemplate ()
			{
				QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxFixed, NonCacheable,
					ReadWrite, 0, 0, 0, 0, 1, , , EWIN)
			})
			CreateQWordField (RBUF, EWIN._MIN, EMIN)
			CreateQWordField (RBUF, EWIN._MAX, EMAX)
			CreateQWordField (RBUF, EWIN._LEN, ELEN)
			Method (_CRS)
			{
				EMIN = ECMB
				EMAX = ECMB + ECML - 1
				ELEN = ECML
				Return (RBUF)
			}
		}

		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_UID, 0)
			/* Devices are never cache-incoherent here. */
			Name (_CCA, 1)

			/* With and without a window above 4 GiB. */
			Name (RBUF, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1, , , BUSN)
				IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
				DWordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0, 0, 0, 1, , , IOWN)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
					ReadWrite, 0, 0, 0, 0, 1, , , M32W)
			})
			Name (RB64, ResourceTemplate ()
			{
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable,
					ReadWrite, 0, 0, 0, 0, 1, , , M64W)
			})
			CreateWordField (RBUF, BUSN._MAX, BMAX)
			CreateWordField (RBUF, BUSN._LEN, BLEN)
			CreateDWordField (RBUF, IOWN._MIN, IMIN)
			CreateDWordField (RBUF, IOWN._MAX, IMAX)
			CreateDWordField (RBUF, IOWN._LEN, ILEN)
			CreateDWordField (RBUF, M32W._MIN, LMIN)
			CreateDWordField (RBUF, M32W._MAX, LMAX)
			CreateDWordField (RBUF, M32W._LEN, LLEN)
			CreateQWordField (RB64, M64W._MIN, HMIN)
			CreateQWordField (RB64, M64W._MAX, HMAX)
			CreateQWordField (RB64, M64W._LEN, HLEN)
			Method (_CRS, 0, Serialized)
			{
				Local0 = ECML >> 20 /* 1 MiB for each bus */
				BLEN = Local0
				BMAX = Local0 - 1
				IMIN = PIOB
				IMAX = PIOB + PIOL - 1
				ILEN = PIOL
				LMIN = P32B
				LMAX = P32B + P32L - 1
				LLEN = P32L
				If (P64L == 0) { Return (RBUF) }
				HMIN = P64B
				HMAX = P64B + P64L - 1
				HLEN = P64L
				Return (ConcatenateResTemplate (RBUF, RB64))
			}

			/* PCI Firmware 3.3, 4.5: the system may have ECAM and MSI; hot-plug, PME and AER are not here. */
			Method (_OSC, 4, Serialized)
			{
				CreateDWordField (Arg3, 0, CDW1)
				If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
				{
					CreateDWordField (Arg3, 8, CDW3)
					Local0 = CDW3 & 0x10 /* PCI Express capability structures */
					If (Arg1 != 1) { CDW1 |= 0x08 } /* unknown revision */
					If (CDW3 != Local0) { CDW1 |= 0x10 } /* not all is granted */
					CDW3 = Local0
				}
				Else
				{
					CDW1 |= 0x04 /* unknown UUID */
				}
				Return (Arg3)
			}
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x03F8, 0x03F8, 1, 8)
				IRQNoFlags () { 4 }
			})
		}

		Device (RTC)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0070, 0x0070, 1, 2)
				IRQNoFlags () { 8 }
			})
		}

		Device (PIC)
		{
			Name (_HID, EisaId ("PNP0000"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0020, 0x0020, 1, 2)
				IO (Decode16, 0x00A0, 0x00A0, 1, 2)
				IO (Decode16, 0x04D0, 0x04D0, 1, 2)
			})
		}

		Device (TIMR)
		{
			Name (_HID, EisaId ("PNP0100"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0040, 0x0040, 1, 4)
				IRQNoFlags () { 0 }
			})
		}

		Device (SPKR)
		{
			Name (_HID, EisaId ("PNP0800"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0061, 0x0061, 1, 1)
			})
		}
	}
}
