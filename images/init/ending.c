/* How calls end: by themselves, by their time limit, or because the host says so.
 *
 * Deciding, timing and killing are done here and not by the supervisor, so one that is stopped or killed by the guest
 * changes nothing: it is killed after its time, and what it leaves behind goes as strays.
 */
#include "call.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { KILL_EVERY_MS = 20, STUCK_MS = 1000 };

static int64_t strays_at = -1;
static int oom_file = -1;

void calls_init(void) {
    oom_file = open("/sys/fs/cgroup/memory/memory.oom_control", O_RDONLY | O_CLOEXEC);
    if (oom_file < 0) oom_file = open("/sys/fs/cgroup/memory.events", O_RDONLY | O_CLOEXEC);
}

long ooms(void) {
    char text[512];
    ssize_t n = oom_file < 0 ? 0 : pread(oom_file, text, sizeof text - 1, 0);
    if (n <= 0) return 0;
    text[n] = 0;
    char *at = strstr(text, "oom_kill ");
    return at ? atol(at + 9) : 0;
}

/* The first pass asks, the later ones do not. Ends when the supervisor does, which is when its descent is empty. */
void call_end(struct call *c, uint32_t reason, bool at_once) {
    if (c->supervisor < 0) return;
    if (!c->main_ended) c->result.flags |= reason;
    int64_t now = now_ms();
    c->deadline = -1;
    if (c->kill_at >= 0 && !at_once) return;
    if (!at_once) proc_end(supervisor_pid(c->supervisor), SIGTERM);
    c->kill_at = now + (at_once ? 0 : c->grace_ms);
    c->stuck_at = c->kill_at + STUCK_MS;
}

static void main_ended(struct call *c, int status, const struct result *usage) {
    uint32_t flags = c->result.flags | (ooms() != c->ooms ? RESULT_OOM : 0);
    c->result = *usage;
    c->result.flags = flags;
    c->result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    c->result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    c->result.duration_us = now_us() - c->began_us;
    c->main_ended = true;
    if (c->kill_at < 0) c->deadline = -1;
    stream_main_ended(&c->out);
    stream_main_ended(&c->err);
}

/* Nothing of the call lives any more. False when the call is gone with that. */
static bool descent_ended(struct call *c) {
    c->supervisor = -1;
    c->kill_at = c->stuck_at = c->deadline = -1;
    if (c->state != JOBS) return true;
    call_release(c);
    return false;
}

void call_hear(struct call *c) {
    struct farewell word;
    while (c->supervisor >= 0 && read(supervisor_socket(c->supervisor), &word, sizeof word) == sizeof word) {
        if (word.kind == ENDED || word.kind == ENDED_ALONE) main_ended(c, word.status, &word.usage);
        if (word.kind == ENDED) continue;
        supervisor_end(c->supervisor);
        if (word.kind == NEVER_BEGAN) {
            wire_fail(c->id, word.status);
            return call_release(c);
        }
        if (!descent_ended(c)) return;
    }
}

static void signal_main(struct call *c) {
    pid_t main = c->supervisor < 0 ? 0 : supervisor_main(c->supervisor);
    if (main <= 0) return;
    kill(-main, c->signal);
    c->signal = 0;
}

void call_signal(struct call *c, int signal) {
    if (c->main_ended || signal < 1 || signal > 64) return;
    c->signal = signal;
    signal_main(c);
}

/* Supervisors end when they are let go; one that ended otherwise was killed by the guest. */
void call_child_ended(pid_t pid, int status) {
    int which = -1;
    for (int i = 0; i < calls_used; i++) {
        if (calls[i].state == UNUSED || supervisor_pid(calls[i].supervisor) != pid) continue;
        call_hear(&calls[i]);
        if (calls[i].supervisor >= 0) which = i;
        break;
    }
    supervisor_reaped(pid);
    if (!WIFEXITED(status)) strays_at = now_ms();
    if (which < 0) return;
    struct call *c = &calls[which];
    if (!c->main_ended) main_ended(c, SIGKILL, &(struct result){0});   /* a wait status: killed by signal 9 */
    descent_ended(c);
}

static int64_t sooner(int64_t wait, int64_t at, int64_t now) {
    if (at < 0) return wait;
    int64_t left = at > now ? at - now : 0;
    return wait < 0 || left < wait ? left : wait;
}

int64_t calls_tick(int64_t now) {
    int64_t wait = -1;
    for (int i = 0; i < calls_used; i++) {
        struct call *c = &calls[i];
        if (c->state == UNUSED) continue;
        if (c->signal && !c->main_ended) {
            signal_main(c);
            wait = c->signal ? 1 : wait;
        }
        if (c->deadline >= 0 && now >= c->deadline) call_end(c, RESULT_TIMED_OUT, false);
        if (c->kill_at >= 0 && now >= c->kill_at && c->supervisor >= 0) {
            pid_t supervisor = supervisor_pid(c->supervisor);
            proc_end(supervisor, SIGKILL);
            kill(supervisor, SIGCONT);
            if (now >= c->stuck_at) kill(supervisor, SIGKILL);
            c->kill_at = now + KILL_EVERY_MS;
        }
        wait = sooner(sooner(wait, c->deadline, now), c->kill_at, now);
    }
    if (strays_at >= 0 && now >= strays_at) {
        static pid_t supervisors[MAX_CALLS];
        int count = supervisor_pids(supervisors);
        strays_at = proc_end_strays(supervisors, count) ? now + KILL_EVERY_MS : -1;
    }
    return sooner(wait, strays_at, now);
}
