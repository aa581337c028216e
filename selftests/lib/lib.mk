# SPDX-License-Identifier: GPL-2.0-only
#
# How programs with a guest in them are built on this library: included by the
# Makefiles of selftests/ and bench/, which name their programs' objects and have
# a rule for all: $(O)/PROGRAM of $(O)/PROGRAM's objects and $(LIB_OBJS).
#
# The programs are static, so that they can be packed into an initramfs, and not
# position independent: the guest runs C functions of the same binary at the
# addresses at which they were linked.

LIBDIR		:= $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

CACHE		?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/keel
KSRC_TAR	?= /usr/src/linux-source-6.1.tar.xz
UNPACKED	:= $(CACHE)/linux-source-6.1-headers
KSELFTEST	?= $(UNPACKED)

HEADERS		:= tools/testing/selftests/kselftest_harness.h \
		   tools/testing/selftests/kselftest.h \
		   tools/arch/x86/include/asm/msr-index.h \
		   arch/x86/include/asm/apicdef.h

# What there is when the headers are: unpacking ends with it.
ifeq ($(KSELFTEST),$(UNPACKED))
HARNESS		:= $(UNPACKED)/unpacked
else
HARNESS		:= $(KSELFTEST)/tools/testing/selftests/kselftest_harness.h
endif

LIB		:= $(notdir $(wildcard $(LIBDIR)/*.c $(LIBDIR)/*.S))
LIB_OBJS	:= $(addprefix $(O)/lib/,$(addsuffix .o,$(LIB)))

CFLAGS		?= -O2 -g
# The guest half has no libc, no SSE state of its own, no red zone (interrupts
# come in on its stack) and no stack protector (no TLS).
KCFLAGS		:= -std=gnu11 -Wall -Wextra -Werror -D_GNU_SOURCE -pthread \
		   -fno-pie -mno-red-zone -mgeneral-regs-only \
		   -fno-stack-protector -fcf-protection=none \
		   -fno-strict-aliasing -fno-tree-vectorize \
		   -fno-tree-loop-distribute-patterns \
		   -I$(LIBDIR) -isystem $(LIBDIR)/include \
		   -isystem $(KSELFTEST)/tools/testing/selftests \
		   -idirafter $(KSELFTEST)/tools/arch/x86/include \
		   -idirafter $(KSELFTEST)/arch/x86/include
KLDFLAGS	:= -s -static -no-pie -pthread -Wl,-z,noexecstack,-z,norelro

# Not the first target: that is for who includes this.
.DEFAULT_GOAL	:= all

$(UNPACKED)/unpacked:
	@test -e $(KSRC_TAR) || { \
		echo "$(KSRC_TAR) is missing: apt-get install linux-source-6.1," \
		     "or give KSELFTEST=<kernel tree>" >&2; exit 1; }
	@mkdir -p $(@D)
	tar xJmf $(KSRC_TAR) -C $(@D) --strip-components=1 \
		$(addprefix $(notdir $(basename $(basename $(KSRC_TAR))))/,$(HEADERS))
	touch $@

$(O)/lib/%.c.o: $(LIBDIR)/%.c $(LIBDIR)/*.h $(HARNESS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(KCFLAGS) -c -o $@ $<

$(O)/lib/%.S.o: $(LIBDIR)/%.S $(LIBDIR)/*.h $(HARNESS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(KCFLAGS) -c -o $@ $<

$(O)/%.o: %.c $(wildcard *.h) $(LIBDIR)/*.h $(HARNESS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(KCFLAGS) -c -o $@ $<

# A header that was unpacked half is unpacked again.
.DELETE_ON_ERROR:
.SECONDARY:
