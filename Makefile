# SPDX-License-Identifier: GPL-2.0-only
# keel: the everyday commands. "make help" lists them.

BUILD		:= $(CURDIR)/build
PREFIX		?= /usr/local
DESTDIR		?=

# What is run, and where: see "make help".
CMD		?=
BACKEND		?= svm
KERNEL		?=
CPUS		?=
T		?=
KDIR		?=

# The kernel that KDIR names; else the running one.
RELEASE		= $(eval RELEASE := $$(shell scripts/build-module --release $(KDIR)))$(RELEASE)

all: module vmm

module:
	@scripts/build-module $(KDIR)

modules-all:
	@scripts/build-module all

# Rooms that have a Makefile of their own.
vmm: $(if $(wildcard userspace-vmm/Makefile),vmm-build)
vmm-build:
	@mkdir -p $(BUILD)/userspace-vmm
	@$(MAKE) -s --no-print-directory -C userspace-vmm O=$(BUILD)/userspace-vmm
	@ln -sfn userspace-vmm/keel $(BUILD)/keel

selftests: $(if $(wildcard selftests/Makefile),selftests-build)
selftests-build:
	@$(MAKE) -s --no-print-directory -C selftests O=$(BUILD)/selftests

kernels:
	@scripts/kernel build small
	@scripts/kernel build debug

sparse:
	@scripts/build-module --sparse 6.1 6.12

run:
	@scripts/setup run
	@scripts/run $(if $(CPUS),--cpus $(CPUS)) $(if $(value CMD),--command '$(subst ','\'',$(value CMD))')

shell:
	@scripts/setup test
	@scripts/shell --backend $(BACKEND) $(if $(KERNEL),--kernel $(KERNEL)) $(if $(CPUS),--cpus $(CPUS))

test:
	@scripts/setup test
	@scripts/test $(T)

test-more:
	@scripts/setup test
	@TESTS_LIST=$(CURDIR)/scripts/tests-more.list scripts/test $(T)

test-clients:
	@scripts/setup test clients
	@TESTS_LIST=$(CURDIR)/scripts/tests-clients.list scripts/test $(T)

kvm-selftests:
	@scripts/setup test clients
	@scripts/kvm-selftests --series 6.1
	@scripts/kvm-selftests --series 6.12

bench:
	@scripts/setup bench
	@scripts/bench $(if $(B),--backend $(B)) $(if $(REPEAT),--repeat $(REPEAT)) $(T)
	@$(if $(B)$(T),:,scripts/bench --machines --backend svm boot)

bench-growth:
	@scripts/setup bench
	@scripts/bench --growth $(if $(B),--backend $(B)) $(T)

bench-machines:
	@scripts/setup bench
	@scripts/bench --machines $(if $(B),--backend $(B)) $(T)

# Builds nothing, so that root, who installs, owns nothing in build/.
install:
	@[ -n "$(RELEASE)" ]
	@for f in build/$(RELEASE)/keel.ko build/keel; do \
		[ -e "$$f" ] || { echo "there is no $$f to install:" \
			"run make first, or say for which kernel (KDIR=6.1, or a build directory); built:" \
			$$(cd build 2>/dev/null && ls -d [0-9]*/keel.ko 2>/dev/null | cut -d / -f 1 | grep . || echo nothing) >&2; exit 1; }; \
	done
	install -D -m 644 $(BUILD)/$(RELEASE)/keel.ko \
		$(DESTDIR)/lib/modules/$(RELEASE)/updates/keel.ko
	$(if $(DESTDIR),,depmod $(RELEASE))
	install -D -m 755 $(BUILD)/keel $(DESTDIR)$(PREFIX)/bin/keel
	install -D -m 755 $(BUILD)/userspace-vmm/keel-vnc $(DESTDIR)$(PREFIX)/bin/keel-vnc
	for page in man/*.[1-9]; do \
		install -D -m 644 "$$page" \
			"$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	install -D -m 644 scripts/keel.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/keel
	install -D -m 644 scripts/60-keel.rules $(DESTDIR)/lib/udev/rules.d/60-keel.rules
	$(if $(DESTDIR),,-udevadm control --reload)

uninstall:
	@[ -n "$(RELEASE)" ]
	rm -f $(DESTDIR)/lib/modules/$(RELEASE)/updates/keel.ko \
		$(DESTDIR)$(PREFIX)/bin/keel \
		$(DESTDIR)$(PREFIX)/bin/keel-vnc \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/keel \
		$(DESTDIR)/lib/udev/rules.d/60-keel.rules
	-rmdir --ignore-fail-on-non-empty $(DESTDIR)/lib/modules/$(RELEASE)/updates 2>/dev/null
	for page in man/*.[1-9]; do \
		rm -f "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; \
	done
	$(if $(DESTDIR),,depmod $(RELEASE))
	$(if $(DESTDIR),,-udevadm control --reload)

clean:
	rm -rf $(BUILD)

help:
	@echo 'make               the module for the running kernel (KDIR=... for another),'
	@echo '                   and the keel command; in build/'
	@echo 'make modules-all   the module for every kernel the tests use'
	@echo 'make run           boot a Linux guest to a shell; CMD="..." runs a command in'
	@echo '                   the guest and ends with its exit status; CPUS=n'
	@echo 'make shell         a shell in an emulated host with keel loaded:'
	@echo '                   BACKEND=svm|vmx|ryzen KERNEL=6.1|6.12|small|debug CPUS=n'
	@echo 'make test          the tests on both backends; T=pattern for some of them'
	@echo 'make test-more     other kernels, the debug kernel, stock KVM as the oracle'
	@echo 'make test-clients  programs that were written for KVM, unchanged, on keel'
	@echo "make kvm-selftests the kernel's own KVM selftests, on stock KVM and on keel"
	@echo 'make bench         what operations cost, keel beside stock KVM: B=svm,vmx T=pattern;'
	@echo "                   without these also the start of a machine, beside QEMU's"
	@echo 'make bench-growth  how that grows with memory, slots, vCPUs, VMs, dirty pages'
	@echo "make bench-machines what keel run takes beside QEMU's microvm and q35: all of it, an hour"
	@echo 'make install       what was built: module (KDIR=...), keel, man pages, udev rule;'
	@echo '                   DESTDIR, PREFIX'
	@echo 'make uninstall     take them away again'
	@echo 'make kernels       the small and the debug kernel, into the cache'
	@echo 'make sparse        check the module with sparse'
	@echo 'make clean         remove build/ (not the cache in ~/.cache/keel)'

.PHONY: all module modules-all vmm vmm-build selftests selftests-build kernels \
	sparse run shell test test-more test-clients kvm-selftests bench bench-growth bench-machines install uninstall clean help
