// SPDX-License-Identifier: GPL-2.0-only
/*
 * Instructions that stop in the middle: exits to userspace for each access of a
 * device, REP that is interrupted and resumed, memory that another CPU changes.
 * Every access must reach the device once, and the result must be that of an
 * instruction that was never interrupted.
 */
#include <string.h>

#include "guest.h"
#include "tap.h"

static struct guest g;
static bool good;

static void expect(bool ok, const char *what, u64 got)
{
	if (ok)
		return;
	good = false;
	printf("# %s: got %#llx\n", what, (unsigned long long)got);
}

#define EXPECT_EQ(got_, want_) do {					\
	u64 val_ = (got_);						\
	expect(val_ == (u64)(want_), #got_ " == " #want_, val_);	\
} while (0)

static void begin(enum insn_mode mode, const char *code)
{
	guest_init(&g, mode);
	guest_code(&g, code);
	good = true;
}

static void end(const char *name)
{
	tap_ok(good, "%s", name);
}

static u64 get(const u8 *p, unsigned int size)
{
	u64 val = 0;

	memcpy(&val, p, size);
	return val;
}

#define REG(name_)	(g.cpu.regs[INSN_ ## name_])

static void test_load_store(void)
{
	begin(INSN_LONG64, "8b 03");
	REG(RBX) = DEVICE + 4;
	REG(RAX) = ~0ull;
	memcpy(g.device + 4, "\x78\x56\x34\x12", 4);
	EXPECT_EQ(guest_step(&g), INSN_EXIT);
	EXPECT_EQ(g.cpu.rip, CODE);
	EXPECT_EQ(REG(RAX), ~0ull);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RAX), 0x12345678);
	EXPECT_EQ(g.device_reads, 1);
	EXPECT_EQ(g.cpu.rip, CODE + 2);
	end("load");

	begin(INSN_LONG64, "48 89 03");
	REG(RBX) = DEVICE;
	REG(RAX) = 0x1122334455667788;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 8), 0x1122334455667788);
	EXPECT_EQ(g.device_writes, 1);
	EXPECT_EQ(g.exits, 1);
	end("store");

	begin(INSN_LONG64, "a3 00 a0 00 00 00 00 00 00");
	REG(RAX) = 0xabcdef01;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 4), 0xabcdef01);
	end("MOV to an absolute address");
}

static void test_read_modify_write(void)
{
	begin(INSN_LONG64, "01 03");
	REG(RBX) = DEVICE;
	REG(RAX) = 5;
	g.device[0] = 0xff;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 4), 0x104);
	EXPECT_EQ(g.device_reads, 1);
	EXPECT_EQ(g.device_writes, 1);
	EXPECT_EQ(g.exits, 2);
	EXPECT_EQ(g.cpu.rflags & X86_EFLAGS_AF, X86_EFLAGS_AF);
	end("ADD to the device");

	begin(INSN_LONG64, "87 03");
	REG(RBX) = DEVICE;
	REG(RAX) = 1;
	g.device[0] = 2;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 4), 1);
	EXPECT_EQ(REG(RAX), 2);
	EXPECT_EQ(g.device_reads + g.device_writes, 2);
	end("XCHG with the device");

	begin(INSN_LONG64, "f0 0f c7 0b");
	REG(RBX) = DEVICE;
	REG(RAX) = 0xa0a0a0a0;
	REG(RDX) = 0xd0d0d0d0;
	REG(RCX) = 0xc0c0c0c0;
	memcpy(g.device, "\xa0\xa0\xa0\xa0\xd0\xd0\xd0\xd0", 8);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 8), 0xc0c0c0c00000a000);
	EXPECT_EQ(g.cpu.rflags & X86_EFLAGS_ZF, X86_EFLAGS_ZF);
	end("LOCK CMPXCHG8B with the device");
}

static void test_two_operands(void)
{
	begin(INSN_LONG64, "ff 33");
	REG(RBX) = DEVICE;
	g.device[7] = 0x42;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RSP), STACK - 8);
	EXPECT_EQ(get(g.ram + STACK - 8, 8), 0x4200000000000000);
	end("PUSH from the device");

	begin(INSN_LONG64, "8f 44 24 f0");
	REG(RSP) = DEVICE + 8;
	g.device[8] = 0x55;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.device, 8), 0x55);
	EXPECT_EQ(REG(RSP), DEVICE + 16);
	EXPECT_EQ(g.exits, 2);
	end("POP relative to RSP, from device to device");

	begin(INSN_PROT16, "ff 37");
	REG(RBX) = DATA;
	REG(RSP) = 0xffff0000;
	memcpy(g.ram + DATA, "\x34\x12", 2);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RSP), 0xfffffffe);
	EXPECT_EQ(get(g.ram + 0xfffe, 2), 0x1234);
	end("PUSH on a 16-bit stack that wraps");
}

static void test_rep_movs(void)
{
	unsigned int i;

	begin(INSN_LONG64, "f3 a4");
	REG(RSI) = DATA;
	REG(RDI) = DEVICE + 0x10;
	REG(RCX) = 5;
	memcpy(g.ram + DATA, "keel!", 5);
	/* By hand: stop after two bytes have arrived. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(guest_step(&g), INSN_EXIT);
		EXPECT_EQ(g.pending.addr, DEVICE + 0x10 + i);
		memcpy(g.device + 0x10 + i, g.pending.data, 1);
		g.log[0] = g.pending;
		g.logged = 1;
	}
	EXPECT_EQ(guest_step(&g), INSN_EXIT);
	EXPECT_EQ(REG(RCX), 3);
	EXPECT_EQ(REG(RSI), DATA + 2);
	EXPECT_EQ(REG(RDI), DEVICE + 0x12);
	EXPECT_EQ(g.cpu.rip, CODE);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RCX), 0);
	EXPECT_EQ(memcmp(g.device + 0x10, "keel!", 5), 0);
	EXPECT_EQ(g.device_writes, 3);
	EXPECT_EQ(g.cpu.rip, CODE + 2);
	end("REP MOVSB to the device, stopped in the middle");

	begin(INSN_LONG64, "f3 48 a5");
	REG(RSI) = DEVICE;
	REG(RDI) = DEVICE + 0x800;
	REG(RCX) = 4;
	memset(g.device, 0x77, 32);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(memcmp(g.device, g.device + 0x800, 32), 0);
	EXPECT_EQ(g.device_reads, 4);
	EXPECT_EQ(g.device_writes, 4);
	EXPECT_EQ(g.exits, 8);
	end("REP MOVSQ from the device to the device");
}

static void test_rep_bounds(void)
{
	unsigned int calls = 1;

	begin(INSN_LONG64, "f3 aa");
	REG(RDI) = DATA;
	REG(RCX) = 1000;
	REG(RAX) = 0x5a;
	while (guest_step(&g) == INSN_DONE && !g.insn.retired) {
		EXPECT_EQ(g.cpu.rip, CODE);
		EXPECT_EQ(REG(RCX) + REG(RDI), 1000 + DATA);
		calls++;
	}
	EXPECT_EQ(calls, 4);
	EXPECT_EQ(g.cpu.rip, CODE + 2);
	EXPECT_EQ(g.ram[DATA + 999], 0x5a);
	EXPECT_EQ(g.ram[DATA + 1000], 0);
	end("REP STOSB comes back after a bounded number");

	begin(INSN_LONG64, "f3 aa");
	REG(RDI) = DATA;
	REG(RCX) = 3;
	g.cpu.rflags |= X86_EFLAGS_TF;
	EXPECT_EQ(guest_step(&g), INSN_DONE);
	EXPECT_EQ(REG(RCX), 2);
	EXPECT_EQ(g.insn.trap, true);
	EXPECT_EQ(g.insn.retired, false);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.insn.trap, true);
	EXPECT_EQ(g.cpu.rip, CODE + 2);
	end("REP with TF traps after each iteration");

	begin(INSN_LONG64, "f3 aa");
	REG(RDI) = ABSENT - 3;
	REG(RCX) = 10;
	g.sync = true;
	EXPECT_EQ(guest_run(&g), INSN_FAULT);
	EXPECT_EQ(g.fault.cr2, ABSENT);
	EXPECT_EQ(REG(RCX), 7);
	EXPECT_EQ(REG(RDI), ABSENT);
	EXPECT_EQ(g.cpu.rip, CODE);
	end("REP STOSB into a page fault can be restarted");

	begin(INSN_LONG64, "f3 aa");
	REG(RDI) = ABSENT;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cpu.rip, CODE + 2);
	end("REP with a count of 0 accesses nothing");
}

static void test_rep_compare(void)
{
	begin(INSN_LONG64, "f2 ae");
	REG(RDI) = DEVICE;
	REG(RCX) = 100;
	REG(RAX) = 'x';
	g.device[6] = 'x';
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RDI), DEVICE + 7);
	EXPECT_EQ(REG(RCX), 93);
	EXPECT_EQ(g.device_reads, 7);
	EXPECT_EQ(g.cpu.rflags & X86_EFLAGS_ZF, X86_EFLAGS_ZF);
	end("REPNE SCASB in the device");

	begin(INSN_PROT32, "f3 a6");
	REG(RSI) = DATA;
	REG(RDI) = DEVICE;
	REG(RCX) = 8;
	memcpy(g.ram + DATA, "keel", 5);
	memcpy(g.device, "keen", 5);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RCX), 4);
	EXPECT_EQ(g.cpu.rflags & X86_EFLAGS_CF, X86_EFLAGS_CF);
	end("REPE CMPSB against the device");
}

static void test_string_ports(void)
{
	begin(INSN_PROT32, "f3 66 6d");
	REG(RDX) = 0x1f0;
	REG(RDI) = DATA;
	REG(RCX) = 3;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.port_reads, 3);
	EXPECT_EQ(get(g.ram + DATA, 6), 0x000300020001);
	EXPECT_EQ(REG(RDI), DATA + 6);
	end("REP INSW reads the port once for each word");

	begin(INSN_PROT32, "6d");
	REG(RDX) = 0x1f0;
	REG(RDI) = READ_ONLY;
	EXPECT_EQ(guest_run(&g), INSN_FAULT);
	EXPECT_EQ(g.fault.error, 3);
	EXPECT_EQ(g.port_reads, 0);
	end("INSD to a read-only page does not touch the port");

	begin(INSN_PROT32, "f3 6e");
	REG(RDX) = 0x3f8;
	REG(RSI) = DEVICE;
	REG(RCX) = 2;
	memcpy(g.device, "ab", 2);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.port_writes, 2);
	EXPECT_EQ(g.port_value, 'b');
	EXPECT_EQ(g.device_reads, 2);
	end("REP OUTSB from the device");

	begin(INSN_REAL, "26 6f");
	REG(RDX) = 0x80;
	REG(RSI) = 0x10;
	g.cpu.seg[INSN_ES].base = DATA;
	memcpy(g.ram + DATA + 0x10, "\xcd\xab", 2);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.port_value, 0xabcd);
	end("OUTSW with a segment override");

	begin(INSN_LONG64, "e5 71");
	REG(RAX) = ~0ull;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RAX), 1);
	EXPECT_EQ(g.port_reads, 1);
	end("IN EAX");
}

static void test_lost_race(void)
{
	begin(INSN_LONG64, "f0 ff 03");
	REG(RBX) = DATA;
	g.steal = true;
	EXPECT_EQ(guest_step(&g), INSN_DONE);
	EXPECT_EQ(g.insn.retired, false);
	EXPECT_EQ(g.cpu.rip, CODE);
	EXPECT_EQ(guest_step(&g), INSN_DONE);
	EXPECT_EQ(g.insn.retired, true);
	EXPECT_EQ(g.ram[DATA], 2);
	end("LOCK INC against another CPU");

	begin(INSN_LONG64, "48 0f c1 03");
	REG(RBX) = DATA;
	REG(RAX) = 1;
	g.steal = true;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.steal, true);
	end("XADD without LOCK does not use cmpxchg");
}

static void test_rip(void)
{
	begin(INSN_REAL, "");
	g.cpu.rip = 0xfffe;
	guest_code(&g, "8a 07");
	REG(RBX) = DATA;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cpu.rip, 0);
	end("IP wraps in 16-bit code");

	begin(INSN_PROT32, "");
	g.cpu.rip = 0xfffffffe;
	g.cpu.seg[INSN_CS].base = 0x2000;
	memcpy(g.ram + 0x1ffe, "\x8a\x03", 2);
	REG(RBX) = DATA;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cpu.rip, 0);
	end("EIP wraps in 32-bit code");

	begin(INSN_REAL, "8a 03");
	g.cpu.seg[INSN_CS].db = 1;
	REG(RBX) = DATA;
	g.ram[DATA] = 9;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RAX), 9);
	end("real mode with CS.D still set: 32-bit code");

	begin(INSN_PROT32, "66 c7 03 34 12");
	REG(RBX) = DATA + 0x100;
	g.cpu.seg[INSN_DS].base = 0xffffff00;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.ram + DATA, 4), 0x1234);
	end("linear addresses wrap at 4 GiB");

	begin(INSN_PROT32, "89 03");
	REG(RBX) = 0xfe;
	REG(RAX) = 0x44332211;
	g.cpu.seg[INSN_DS].base = 0xffffff00;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.top + 0xffe, 2), 0x2211);
	EXPECT_EQ(get(g.ram, 2), 0x4433);
	g.cpu.rip = CODE;
	g.no_page_0 = true;
	REG(RAX) = 0;
	EXPECT_EQ(guest_run(&g), INSN_FAULT);
	EXPECT_EQ(g.fault.cr2, 0);
	EXPECT_EQ(get(g.top + 0xffe, 2), 0x2211);
	end("a store over the 4 GiB wrap is two accesses, or none");

	begin(INSN_PROT32, "8a 03");
	REG(RBX) = DATA;
	g.cpu.rflags |= X86_EFLAGS_TF | X86_EFLAGS_RF;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.insn.trap, true);
	EXPECT_EQ(g.cpu.rflags & X86_EFLAGS_RF, 0);
	end("TF is reported, RF cleared");
}

static void test_control_registers(void)
{
	begin(INSN_PROT32, "0f 01 f0");
	g.cr[0] = X86_CR0_PE | X86_CR0_ET | X86_CR0_TS;
	REG(RAX) = X86_CR0_MP;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cr[0], X86_CR0_PE | X86_CR0_ET | X86_CR0_MP);
	end("LMSW does not clear PE");

	begin(INSN_REAL, "0f 01 37");
	REG(RBX) = DATA;
	g.ram[DATA] = X86_CR0_PE;
	g.ram[DATA + 1] = 0xff;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cr[0], X86_CR0_PE);
	end("LMSW from memory sets PE");

	begin(INSN_LONG64, "0f 01 23");
	REG(RBX) = DATA;
	g.cr[0] = 0x80050033;
	memset(g.ram + DATA, 0xff, 8);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(get(g.ram + DATA, 8), 0xffffffffffff0033);
	end("SMSW stores 16 bits");

	begin(INSN_PROT32, "0f 06");
	g.cr[0] = X86_CR0_PE | X86_CR0_TS;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cr[0], X86_CR0_PE);
	end("CLTS");

	begin(INSN_LONG64, "44 0f 22 c1");
	REG(RCX) = 0xf;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.cr[8], 0xf);
	end("MOV to CR8");

	begin(INSN_LONG64, "66 0f 20 d9");
	g.cr[3] = 0x123456789000;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(REG(RCX), 0x123456789000);
	end("MOV from CR3 is 64 bits wide whatever 66 says");

	begin(INSN_PROT32, "0f 23 ef");
	REG(RDI) = 0x400;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.dr[7], 0x400);
	end("MOV to DR5 is DR7 without CR4.DE");

	begin(INSN_LONG64, "65 0f 01 3b");
	REG(RBX) = 0x5000;
	g.cpu.seg[INSN_GS].base = 0xffff888000000000;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(g.invalidated, 0xffff888000005000);
	end("INVLPG in GS");
}

static void test_sse(void)
{
	unsigned int i;

	begin(INSN_LONG64, "66 44 0f 7f 3b");
	REG(RBX) = DEVICE + 0x20;
	for (i = 0; i < 16; i++)
		g.xmm[15][i] = i + 1;
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(memcmp(g.device + 0x20, g.xmm[15], 16), 0);
	EXPECT_EQ(g.device_writes, 1);
	end("MOVDQA to the device");

	begin(INSN_LONG64, "f3 0f 6f 0b");
	REG(RBX) = DEVICE + 0x21;
	memset(g.device, 0x3c, 0x100);
	EXPECT_EQ(guest_run(&g), INSN_DONE);
	EXPECT_EQ(memcmp(g.xmm[1], g.device, 16), 0);
	end("MOVDQU from the device");
}

static void test_skip(void)
{
	static const struct {
		const char *code;
		enum insn_mode mode;
		unsigned int len;
	} skips[] = {
		{ "0f a2", INSN_LONG64, 2 },			/* CPUID */
		{ "f4", INSN_REAL, 1 },				/* HLT */
		{ "0f 01 d9", INSN_LONG64, 3 },			/* VMMCALL */
		{ "66 0f 38 82 03", INSN_LONG64, 5 },		/* INVPCID */
		{ "0f 01 d1", INSN_PROT32, 3 },			/* XSETBV */
		{ "ea 00 10 00 00 08 00", INSN_PROT32, 7 },	/* JMP FAR */
		{ "66 ea 00 10 00 00 08 00", INSN_REAL, 8 },
		{ "e6 80", INSN_REAL, 2 },			/* OUT */
		{ "0f 00 5d 08", INSN_LONG64, 4 },		/* LTR */
		{ "c4 e2 7d 18 05 00 00 00 00", INSN_LONG64, 9 },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(skips); i++) {
		begin(skips[i].mode, skips[i].code);
		EXPECT_EQ(insn_fetch(&g.cpu, &guest_ops, &g, &g.insn,
				     &g.fault), INSN_OK);
		EXPECT_EQ(g.insn.len, skips[i].len);
		EXPECT_EQ(insn_skip(&g.cpu, g.insn.len),
			  CODE + skips[i].len);
		end(skips[i].code);
	}
}

int main(void)
{
	test_load_store();
	test_read_modify_write();
	test_two_operands();
	test_rep_movs();
	test_rep_bounds();
	test_rep_compare();
	test_string_ports();
	test_lost_race();
	test_rip();
	test_control_registers();
	test_sse();
	test_skip();
	return tap_done();
}
