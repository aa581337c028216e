/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The commands, each of which returns its exit status.
 */
#ifndef COMMANDS_H
#define COMMANDS_H

#include "keel.h"

int cmd_run(struct run_config *cfg);
int cmd_ps(struct run_config *cfg);
int cmd_console(struct run_config *cfg);
int cmd_stop(struct run_config *cfg);
int cmd_kill(struct run_config *cfg);
int cmd_pause(struct run_config *cfg);
int cmd_resume(struct run_config *cfg);
int cmd_snapshot(struct run_config *cfg);
int cmd_restore(struct run_config *cfg);
int cmd_screenshot(struct run_config *cfg);
int cmd_top(struct run_config *cfg);
int cmd_doctor(const char *root, const char *device, bool json);

#endif
