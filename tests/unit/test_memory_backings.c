/* SPDX-License-Identifier: Apache-2.0 */

/*
 * RAM of each kind of page under the kernel's KVM: what is known to be populated, what the dirty log tells of, and what
 * another process that maps the file does to both. A move stands on these; docs/moving.md has them as a table.
 */

#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cpu/model.h"
#include "cpu/start.h"
#include "host/huge_file.h"
#include "kvm/kvm.h"
#include "memory/dirty.h"

#define RAM MIB(16)
#define CODE_AT 0x1000
#define GDT_AT 0x800
#define FIRST MIB(4) /* where the guest writes */
#define RING_ENTRIES 4096
#define HUGE_PAGE MIB(2)

enum backing { SMALL_PAGES, TRANSPARENT_HUGE, HUGETLB, BACKINGS };

struct machine {
	enum backing backing;
	struct memory *memory;
	struct kvm_system *system;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct dirty_bitmap log;
};

/* loop: mov [ebx], eax; add ebx, 4096; out 0x80, al; jmp loop - 32-bit protected mode */
static const uint8_t guest_code[] = { 0x89, 0x03, 0x81, 0xc3, 0x00, 0x10,
				      0x00, 0x00, 0xe6, 0x80, 0xeb, 0xf4 };

static uint64_t free_huge_pages(void)
{
	FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long count = 0;

	if (file && fscanf(file, "%lu", &count) != 1)
		count = 0;
	if (file)
		fclose(file);
	return count;
}

/* Skips what this host cannot give. */
static void make_memory(struct machine *m)
{
	static const enum memory_hugepages kinds[BACKINGS] = {
		[SMALL_PAGES] = MEMORY_HUGE_OFF,
		[TRANSPARENT_HUGE] = MEMORY_HUGE_THP,
		[HUGETLB] = MEMORY_HUGE_ON,
	};
	struct error err = { 0 };
	int fd = -1;

	if (m->backing == HUGETLB && free_huge_pages() < RAM / HUGE_PAGE)
		skip();
	if (m->backing == TRANSPARENT_HUGE) {
		fd = huge_file_make("test", RAM);
		if (fd < 0)
			skip();
	}
	if (memory_create(RAM, GIB(2), GIB(4), kinds[m->backing], fd, &m->memory, &err) < 0)
		fail_msg("%s", err.message);
}

static void make_vcpu(struct machine *m)
{
	const struct cpu_start start = {
		.mode = CPU_START_FLAT32, .rip = CODE_AT, .rbx = FIRST, .gdt = GDT_AT
	};
	struct kvm_cpuid2 *supported, *cpuid;
	struct error err = { 0 };

	assert_int_equal(kvm_vcpu_new(m->vm, 0, &m->vcpu), 0);
	assert_int_equal(kvm_supported_cpuid(m->system, &supported), 0);
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_HOST, supported, 0, 1, &cpuid, &err), 0);
	assert_int_equal(kvm_vcpu_set_cpuid(m->vcpu, cpuid), 0);
	assert_int_equal(cpu_start_set(m->vcpu, &start), 0);
	assert_int_equal(memory_dirty_add_vcpu(m->memory, m->vcpu), 0);
	free(supported);
	free(cpuid);
}

static void machine_start(struct machine *m, enum backing backing, enum dirty_backend backend)
{
	const uint64_t split[4] = { 24 };
	uint64_t gdt[CPU_START_GDT_ENTRIES];

	memset(m, 0, sizeof(*m));
	m->backing = backing;
	make_memory(m);
	assert_int_equal(kvm_open(-1, &m->system), 0);
	assert_int_equal(kvm_vm_new(m->system, &m->vm), 0);
	assert_int_equal(kvm_vm_enable(m->vm, KVM_CAP_SPLIT_IRQCHIP, split), 0);
	assert_int_equal(kvm_vm_set_memory(m->vm, 0, 0, 0, RAM, m->memory->banks[0].host), 0);
	if (memory_dirty_attach(m->memory, backend, m->vm, RING_ENTRIES) < 0)
		skip(); /* this KVM lacks it */
	make_vcpu(m);
	cpu_start_gdt(CPU_START_FLAT32, gdt);
	assert_int_equal(memory_write(m->memory, gpa(GDT_AT), gdt, sizeof(gdt)), 0);
	assert_int_equal(memory_write(m->memory, gpa(CODE_AT), guest_code, sizeof(guest_code)), 0);
	assert_int_equal(dirty_bitmap_init(&m->log, m->memory), 0);
}

static void machine_end(struct machine *m)
{
	dirty_bitmap_release(&m->log);
	kvm_vcpu_free(m->vcpu);
	memory_free(m->memory);
	kvm_vm_free(m->vm);
	kvm_close(m->system);
}

/* The guest writes one word to each of the next `n` pages. */
static void guest_writes(struct machine *m, unsigned int n)
{
	struct kvm_run *run = kvm_vcpu_run_page(m->vcpu);

	while (n--) {
		assert_int_equal(kvm_vcpu_run(m->vcpu), 0);
		assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	}
}

static bool in_log(const struct machine *m, uint64_t at)
{
	uint64_t page = at / MEMORY_PAGE_SIZE;

	return m->log.words[page / 64] >> (page % 64) & 1;
}

static uint64_t collect(struct machine *m)
{
	dirty_bitmap_clear(&m->log);
	assert_int_equal(memory_dirty_collect(m->memory, &m->log), 0);
	return dirty_bitmap_count(&m->log);
}

/* Whether the file has data at `at`, as SEEK_DATA tells. */
static bool is_populated(const struct machine *m, uint64_t at)
{
	struct memory_range range;

	return memory_next_populated(m->memory, gpa(at), &range) == 1 && range.start.v == at;
}

/* ---- the log ---- */

/* To the page of 4 KiB, whatever the size of the host's pages: KVM splits what it maps while it logs. */
static void writes_are_logged_by_small_pages(enum backing backing, enum dirty_backend backend)
{
	struct machine m;

	machine_start(&m, backing, backend);
	guest_writes(&m, 3); /* before: not the log's business */
	assert_int_equal(memory_dirty_start(m.memory), 0);
	assert_int_equal(collect(&m), 0);
	guest_writes(&m, 5);
	assert_int_equal(memory_write(m.memory, gpa(MIB(10)), "ours", 4), 0);
	assert_int_equal(collect(&m), 6);
	for (unsigned int i = 3; i < 8; i++)
		assert_true(in_log(&m, FIRST + i * MEMORY_PAGE_SIZE));
	assert_true(in_log(&m, MIB(10)));
	/* Armed again: what is written once more is told once more, even over a huge page's end. */
	guest_writes(&m, HUGE_PAGE / MEMORY_PAGE_SIZE);
	assert_int_equal(collect(&m), HUGE_PAGE / MEMORY_PAGE_SIZE);
	assert_int_equal(collect(&m), 0);
	memory_dirty_stop(m.memory);
	machine_end(&m);
}

#define LOG_TEST(name, backing, backend)                                                           \
	static void name(void **state _unused_)                                                    \
	{                                                                                          \
		writes_are_logged_by_small_pages(backing, backend);                                \
	}
LOG_TEST(log_of_small_pages_bitmap, SMALL_PAGES, DIRTY_BACKEND_BITMAP)
LOG_TEST(log_of_small_pages_ring, SMALL_PAGES, DIRTY_BACKEND_RING)
LOG_TEST(log_of_transparent_huge_bitmap, TRANSPARENT_HUGE, DIRTY_BACKEND_BITMAP)
LOG_TEST(log_of_transparent_huge_ring, TRANSPARENT_HUGE, DIRTY_BACKEND_RING)
LOG_TEST(log_of_hugetlb_bitmap, HUGETLB, DIRTY_BACKEND_BITMAP)
LOG_TEST(log_of_hugetlb_ring, HUGETLB, DIRTY_BACKEND_RING)

/* ---- what is populated ---- */

/* Pages that the guest touched are data, the others holes: by its page size. */
static void populated_by_page(enum backing backing, uint64_t page)
{
	struct machine m;
	uint64_t bytes;

	machine_start(&m, backing, DIRTY_BACKEND_NONE);
	assert_false(is_populated(&m, FIRST));
	guest_writes(&m, 1);
	assert_true(is_populated(&m, FIRST));
	assert_int_equal(is_populated(&m, FIRST + MEMORY_PAGE_SIZE), page > MEMORY_PAGE_SIZE);
	assert_false(is_populated(&m, FIRST + HUGE_PAGE));
	assert_int_equal(memory_populated(m.memory, &bytes), 0);
	/* And those of code and descriptors. */
	assert_int_equal(bytes, page > MEMORY_PAGE_SIZE ? 2 * page : 3 * page);
	machine_end(&m);
}

static void small_pages_are_populated_one_by_one(void **state _unused_)
{
	populated_by_page(SMALL_PAGES, MEMORY_PAGE_SIZE);
}

static void transparent_huge_pages_are_populated_whole(void **state _unused_)
{
	populated_by_page(TRANSPARENT_HUGE, HUGE_PAGE);
}

/* SEEK_DATA says that all is data; how much is, the file's blocks tell. */
static void hugetlb_calls_all_of_it_data(void **state _unused_)
{
	struct machine m;
	uint64_t bytes;

	machine_start(&m, HUGETLB, DIRTY_BACKEND_NONE);
	assert_true(is_populated(&m, FIRST + HUGE_PAGE));
	guest_writes(&m, 1);
	assert_int_equal(memory_populated(m.memory, &bytes), 0);
	assert_int_equal(bytes, 2 * HUGE_PAGE);
	machine_end(&m);
}

/* Reading a hole through the mapping, or the file, gives zeros; the mapping fills the hole by that, read(2) does not. */
static void reading_a_hole(enum backing backing)
{
	struct machine m;
	uint64_t before, after;
	char word[4] = "xyz";

	machine_start(&m, backing, DIRTY_BACKEND_NONE);
	assert_int_equal(memory_populated(m.memory, &before), 0);
	assert_int_equal(pread(m.memory->fd, word, 4, FIRST), 4);
	assert_memory_equal(word, "\0\0\0", 4);
	assert_int_equal(memory_populated(m.memory, &after), 0);
	assert_int_equal(after, before);
	assert_int_equal(memory_read(m.memory, gpa(FIRST), word, 4), 0);
	assert_int_equal(memory_populated(m.memory, &after), 0);
	assert_true(after > before);
	machine_end(&m);
}

static void a_hole_is_filled_by_reading_small_pages(void **state _unused_)
{
	reading_a_hole(SMALL_PAGES);
}

static void a_hole_is_filled_by_reading_transparent_huge(void **state _unused_)
{
	reading_a_hole(TRANSPARENT_HUGE);
}

static void a_hole_is_filled_by_reading_hugetlb(void **state _unused_)
{
	reading_a_hole(HUGETLB);
}

/* ---- another process ---- */

/* Another process maps the file, as a mover does, and writes one word at each of the places. */
static void another_process_writes(const struct machine *m, const uint64_t at[], size_t n)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, m->memory->fd,
				    0);

		for (size_t i = 0; ram != MAP_FAILED && i < n; i++)
			memcpy(ram + at[i], "word", 4);
		_exit(ram == MAP_FAILED);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Its writes are seen at once and populate the file; no log tells of them, KVM's or ours. */
static void another_process_shares(enum backing backing)
{
	const uint64_t places[] = { MIB(8), MIB(12) + MEMORY_PAGE_SIZE };
	struct machine m;
	char word[5] = "";
	uint64_t before, after;

	machine_start(&m, backing, DIRTY_BACKEND_BITMAP);
	assert_int_equal(memory_dirty_start(m.memory), 0);
	assert_int_equal(memory_populated(m.memory, &before), 0);
	another_process_writes(&m, places, ARRAY_SIZE(places));
	assert_int_equal(memory_populated(m.memory, &after), 0);
	assert_int_equal(after - before,
			 2 * (backing == SMALL_PAGES ? MEMORY_PAGE_SIZE : HUGE_PAGE));
	assert_true(is_populated(&m, MIB(8)));
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		assert_int_equal(memory_read(m.memory, gpa(places[i]), word, 4), 0);
		assert_string_equal(word, "word");
	}
	assert_int_equal(collect(&m), 0);
	machine_end(&m);
}

static void another_process_shares_small_pages(void **state _unused_)
{
	another_process_shares(SMALL_PAGES);
}

static void another_process_shares_transparent_huge(void **state _unused_)
{
	another_process_shares(TRANSPARENT_HUGE);
}

static void another_process_shares_hugetlb(void **state _unused_)
{
	another_process_shares(HUGETLB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(log_of_small_pages_bitmap),
		cmocka_unit_test(log_of_small_pages_ring),
		cmocka_unit_test(log_of_transparent_huge_bitmap),
		cmocka_unit_test(log_of_transparent_huge_ring),
		cmocka_unit_test(log_of_hugetlb_bitmap),
		cmocka_unit_test(log_of_hugetlb_ring),
		cmocka_unit_test(small_pages_are_populated_one_by_one),
		cmocka_unit_test(transparent_huge_pages_are_populated_whole),
		cmocka_unit_test(hugetlb_calls_all_of_it_data),
		cmocka_unit_test(a_hole_is_filled_by_reading_small_pages),
		cmocka_unit_test(a_hole_is_filled_by_reading_transparent_huge),
		cmocka_unit_test(a_hole_is_filled_by_reading_hugetlb),
		cmocka_unit_test(another_process_shares_small_pages),
		cmocka_unit_test(another_process_shares_transparent_huge),
		cmocka_unit_test(another_process_shares_hugetlb),
	};
	struct kvm_system *system;

	if (kvm_open(-1, &system) < 0) {
		print_message("no /dev/kvm here\n");
		return 77;
	}
	kvm_close(system);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
