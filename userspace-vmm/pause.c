// SPDX-License-Identifier: GPL-2.0-only
/*
 * All virtual processors out of KVM_RUN, and back in or to their end.
 *
 * A vCPU that is to stop enters KVM_RUN once more with immediate_exit, which
 * completes the exit it has just been served, and parks: its registers are
 * then whole (Documentation/virt/kvm/api.rst, 5, "KVM_EXIT_IO").
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <time.h>

#include "machine.h"

#define KICK_AGAIN_NS 20000000L
#define KICK_TRIES 2000		/* 40 seconds, for who waits for a daemon's answer */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

/** vcpu_park() - called by the vCPU's thread: wait until it may run again */
void vcpu_park(struct vcpu *v)
{
	pthread_mutex_lock(&lock);
	atomic_store(&v->parked, true);
	pthread_cond_broadcast(&changed);
	while (atomic_load(&v->stop) && !machine_ended(v->machine))
		pthread_cond_wait(&changed, &lock);
	atomic_store(&v->parked, false);
	pthread_mutex_unlock(&lock);
}

/**
 * vcpu_unpark() - let a vCPU run
 * @v: the vCPU, parked or not
 */
void vcpu_unpark(struct vcpu *v)
{
	pthread_mutex_lock(&lock);
	atomic_store(&v->stop, false);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/** vcpu_finish() - called by the vCPU's thread: it ends */
void vcpu_finish(struct vcpu *v)
{
	pthread_mutex_lock(&lock);
	atomic_store(&v->finished, true);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/*
 * Until it has parked or, when the machine has ended, its thread has ended. The
 * thread may be anywhere, so kick until it has seen it.
 */
static int wait_out(struct vcpu *v, struct err *err)
{
	unsigned int tries = KICK_TRIES;
	struct timespec when;

	pthread_mutex_lock(&lock);
	while (v->started && !atomic_load(&v->finished) &&
	       (!atomic_load(&v->parked) || machine_ended(v->machine)) && --tries) {
		vcpu_kick(v);
		pthread_cond_broadcast(&changed);
		clock_gettime(CLOCK_REALTIME, &when);
		when.tv_nsec += KICK_AGAIN_NS;
		if (when.tv_nsec >= 1000000000L) {
			when.tv_nsec -= 1000000000L;
			when.tv_sec++;
		}
		pthread_cond_timedwait(&changed, &lock, &when);
	}
	pthread_mutex_unlock(&lock);
	return tries ? 0 : err_set(err, "vCPU %u does not return from KVM_RUN; see the kernel log (dmesg)",
				   v->id);
}

/** vcpu_stop_all() - join all vCPU threads of a machine that has ended */
int vcpu_stop_all(struct machine *m, struct err *err)
{
	unsigned int i;

	for (i = 0; i < m->vcpu_count; i++) {
		struct vcpu *v = &m->vcpus[i];

		if (wait_out(v, err) < 0)
			return -1;
		if (v->started)
			pthread_join(v->thread, NULL);
		v->started = false;
	}
	return 0;
}

/**
 * machine_pause() - stop all vCPUs and the guest's clock
 *
 * Main thread. Harmless if it is paused already. If it fails the machine runs on.
 */
int machine_pause(struct machine *m, struct err *err)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < m->vcpu_count; i++)
		atomic_store(&m->vcpus[i].stop, true);
	for (i = 0; i < m->vcpu_count && !ret; i++)
		ret = wait_out(&m->vcpus[i], err);
	if (!ret && !m->paused && ioctl(m->vm_fd, KVM_GET_CLOCK, &m->clock) < 0)
		ret = err_sys(err, "%s: KVM_GET_CLOCK", m->cfg->device);
	m->paused |= !ret;
	for (i = 0; i < m->vcpu_count && !m->paused; i++)
		vcpu_unpark(&m->vcpus[i]);
	return ret;
}

/** machine_resume() - let all vCPUs run, the clock where it was */
int machine_resume(struct machine *m, struct err *err)
{
	unsigned int i;

	if (!m->paused)
		return 0;
	m->clock.flags = 0;	/* the time that has gone by did not */
	if (M_IOCTL(m, m->vm_fd, KVM_SET_CLOCK, &m->clock, err) < 0)
		return -1;
	m->paused = false;
	for (i = 0; i < m->vcpu_count; i++) {
		/* For the guest's watchdogs. EINVAL: it uses another clock. */
		ioctl(m->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
		vcpu_unpark(&m->vcpus[i]);
	}
	return 0;
}
