# SPDX-License-Identifier: GPL-2.0-only
"""What clients/gdb has gdb do. Each check() is a TAP line."""
import os
import signal
import threading

import gdb

count = 0
stopped_by = []  # breakpoints of the last stop


def check(name, good, detail=""):
    global count
    count += 1
    print("%s %d - %s" % ("ok" if good else "not ok", count, name), flush=True)
    if not good and detail:
        print(detail, flush=True)


def skip(name, why):
    global count
    count += 1
    print("ok %d - %s # SKIP %s" % (count, name, why), flush=True)


def on_stop(event):
    stopped_by[:] = getattr(event, "breakpoints", [])


def run(command):
    return gdb.execute(command, to_string=True)


def number(expression):
    return int(gdb.parse_and_eval("(unsigned long)(%s)" % expression)) & (2**64 - 1)


def address(symbol):
    return number("&'%s'" % symbol)


def go(seconds):
    """continue, for at most so long: SIGINT is what Ctrl-C would be"""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        return run("continue")
    finally:
        timer.cancel()


def stepped(n):
    """@n steps: the addresses at which they ended"""
    at = []
    for _ in range(n):
        run("stepi")
        at.append(number("$pc"))
    return at


def booted():
    for _ in range(60):
        go(3)
        with open(os.environ["CONSOLE"], errors="replace") as f:
            if "@gdb begin@" in f.read():
                return True
    return False


def reset_vector():
    check("stopped at the reset vector", number("$pc") == 0xfff0, run("info registers rip cs"))
    code = run("x/1xb 0xfffffff0")
    check("firmware is readable", "0xea" in code, code)
    at = stepped(3)
    check("single step in real mode", at[0] != 0xfff0 and len(set(at)) == 3, str(at))


def software_breakpoint():
    run("break *do_syscall_64")
    where = go(20)
    here = address("do_syscall_64")
    check("software breakpoint in the kernel", number("$pc") == here, where)
    where = go(20)
    check("... which is met again", number("$pc") == here, where)
    run("delete")
    where = go(2)
    check("... and not when it is gone", not stopped_by and number("$pc") != here, where)


def memory_and_registers():
    text = run("x/s (char *)&linux_banner")
    check("the guest's memory", "Linux version" in text, text)
    old = number("*(int *)&panic_timeout")
    run("set var *(int *)&panic_timeout = 77")
    check("... can be written", number("*(int *)&panic_timeout") == 77)
    run("set var *(int *)&panic_timeout = %d" % (old - 2**32 if old >> 31 & 1 else old & 0xffffffff))
    old = number("$r15")
    run("set $r15 = 0x123456789abcdef0")
    run("maintenance flush register-cache")
    check("registers can be written", number("$r15") == 0x123456789abcdef0)
    run("set $r15 = %d" % old)


def single_step(name, sstep):
    """@sstep: of QEMU, 1 enable, 2 no interrupts, 4 no timers"""
    run("maintenance packet Qqemu.sstep=%#x" % sstep)
    at = stepped(200)
    check("200 single steps " + name, len(set(at)) > 5, str([hex(a) for a in at]))
    flags = run("info registers eflags")
    check("... leave no TF", "TF" not in flags, flags)


def hardware(name, command, condition):
    if os.environ["NO_HW"]:
        skip(name, os.environ["NO_HW"])
        return
    run("set can-use-hw-watchpoints 1")
    run(command)
    where = go(20)
    check(name, condition(), where)
    run("delete")


def still_alive():
    """jiffies goes on, and the kernel has not complained"""
    before = number("*(unsigned long *)&jiffies")
    go(2)
    after = number("*(unsigned long *)&jiffies")
    check("the guest runs on", after > before, "%d %d" % (before, after))
    with open(os.environ["CONSOLE"], errors="replace") as f:
        text = f.read()
    bad = [w for w in ("WARNING:", "BUG:", "Oops", "panic") if w in text.replace("panic=-1", "")]
    check("... and its kernel has no complaint", not bad, text[-2000:])


def main():
    gdb.events.stop.connect(on_stop)
    run("set architecture i386:x86-64")
    run("target remote " + os.environ["SOCKET"])
    reset_vector()
    check("the guest boots", booted())
    memory_and_registers()
    if os.environ["NO_SW"]:
        skip("software breakpoints", os.environ["NO_SW"])
    else:
        software_breakpoint()
    single_step("without interrupts", 7)
    single_step("through interrupts", 1)
    hardware("hardware breakpoint", "hbreak *do_syscall_64",
             lambda: number("$pc") == address("do_syscall_64"))
    hardware("hardware watchpoint", "watch *(unsigned long *)&jiffies",
             lambda: stopped_by and stopped_by[0].type == gdb.BP_HARDWARE_WATCHPOINT)
    still_alive()
    print("1..%d" % count, flush=True)
    run("kill")


try:
    main()
except Exception as e:
    check("gdb goes on: %s" % e, False)
