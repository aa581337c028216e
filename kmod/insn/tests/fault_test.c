// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults and boundaries (fault-cases.h). Nothing may have changed when an
 * instruction faults.
 */
#include "fault-cases.h"
#include "tap.h"

static void run_case(const struct fault_case *c)
{
	static struct guest g, was;
	bool ok;
	int ret;

	fault_prepare(&g, c);
	was = g;
	ret = guest_step(&g);
	ok = fault_expected(&g, c, ret);
	if (!tap_ok(ok, "%s", c->name))
		printf("# result %d vector %u error code %d %x cr2 %llx\n",
		       ret, g.fault.vector, g.fault.has_error, g.fault.error,
		       (unsigned long long)g.fault.cr2);
	if (ret != INSN_DONE)
		tap_ok(guest_unchanged(&g, &was), "%s: nothing changed", c->name);
	else
		tap_ok(g.insn.retired && g.cpu.rip == was.cpu.rip + g.insn.len,
		       "%s: RIP after it", c->name);
}

int main(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(fault_cases); i++)
		run_case(&fault_cases[i]);
	return tap_done();
}
