// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not a test but a part of some: what kexec(8) does, without its package.
 *
 *	kexec load|crash BZIMAGE INITRD COMMAND-LINE	for "go", or for a panic
 *	kexec go					into the loaded kernel, at once
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load(char **argv, unsigned long flags)
{
	int kernel = open(argv[0], O_RDONLY), initrd = open(argv[1], O_RDONLY);

	if (kernel < 0 || initrd < 0) {
		perror(kernel < 0 ? argv[0] : argv[1]);
		return 1;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[2]) + 1, argv[2], flags)) {
		perror("kexec_file_load");
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "load"))
		return load(argv + 2, 0);
	if (argc == 5 && !strcmp(argv[1], "crash"))
		return load(argv + 2, KEXEC_FILE_ON_CRASH);
	if (argc == 2 && !strcmp(argv[1], "go")) {
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
		perror("reboot");
		return 1;
	}
	fprintf(stderr, "usage: kexec load|crash BZIMAGE INITRD COMMAND-LINE, kexec go\n");
	return 2;
}
