/* Commands.
 *
 * Every call runs under a supervisor, which starts it, waits, and says what came of it. Deciding, timing and killing
 * are done here, so a supervisor that is stopped or killed by the guest changes nothing: it is killed after its time,
 * and what it leaves behind goes as strays.
 */
#include "init.h"
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum state { UNUSED, RUNNING, KEPT, JOBS };   /* KEPT: reported, not yet acknowledged; JOBS: only descendants live on */
enum { KILL_EVERY_MS = 20, STUCK_MS = 1000 };

struct call {
    enum state state;
    uint64_t id;
    int supervisor;                 /* its number; -1 once nothing of the call lives */
    int in;                         /* -1 when closed */
    int signal;                     /* to be sent as soon as there is a main process */
    bool tty, main_ended, settled, in_end;
    struct stream out, err;
    uint8_t *in_buffer;
    size_t in_start, in_length;
    uint64_t in_taken;
    int64_t deadline, kill_at, stuck_at;  /* milliseconds; -1: none. kill_at: the next pass of SIGKILL */
    uint32_t grace_ms;
    uint64_t began_us;
    long ooms;
    struct result result;
};

static struct call calls[MAX_CALLS];
static int used;                         /* no slot from here on was ever taken */
static uint64_t forgotten[4096];         /* ids that were acknowledged, so that none runs twice */
static unsigned forgotten_next;
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

static struct call *find(uint64_t id) {
    for (int i = 0; i < used; i++)
        if (calls[i].state != UNUSED && calls[i].id == id) return &calls[i];
    return NULL;
}

static bool was_done(uint64_t id) {
    for (size_t i = 0; i < sizeof forgotten / sizeof *forgotten; i++)
        if (forgotten[i] == id) return true;
    return false;
}

static void release(struct call *c) {
    stream_close(&c->out);
    stream_close(&c->err);
    if (c->in >= 0) close(c->in);
    if (c->in_buffer) munmap(c->in_buffer, STDIN_WINDOW);
    *c = (struct call){.state = UNUSED, .in = -1, .supervisor = -1};
}

void call_spawn(uint64_t id, const uint8_t *request, size_t length) {
    struct call *c = find(id);
    if (c) {                       /* at most once: whoever asks again learns what came of it */
        if (c->state == KEPT) c->state = RUNNING;
        if (c->state == JOBS) wire_fail(id, ALREADY_DONE);
        return;
    }
    if (was_done(id)) return wire_fail(id, ALREADY_DONE);
    for (c = calls; c < calls + MAX_CALLS && c->state != UNUSED; c++) {}
    if (c == calls + MAX_CALLS) return wire_fail(id, EBUSY);

    static struct spawn_request ask;
    if (!spawn_parse(request, length, &ask)) return wire_fail(id, EINVAL);
    struct spawned child;
    uint64_t began = now_us();
    long before = ooms();
    int error = spawn(&ask, request, length, &child);
    if (error) return wire_fail(id, error);

    if (c - calls >= used) used = (int)(c - calls) + 1;
    *c = (struct call){
        .state = RUNNING, .id = id, .supervisor = child.supervisor,
        .in = child.in, .tty = ask.flags & SPAWN_TTY, .in_end = ask.flags & SPAWN_STDIN_EOF, .grace_ms = ask.grace_ms,
        .deadline = ask.timeout_ms ? now_ms() + ask.timeout_ms : -1, .kill_at = -1, .stuck_at = -1,
        .began_us = began, .ooms = before,
    };
    bool carried = ask.flags & SPAWN_CARRY;
    stream_open(&c->out, child.out, ask.output_bytes, carried, ask.spill_bytes, id, 0);
    stream_open(&c->err, child.err, ask.output_bytes, carried, ask.spill_bytes, id, 1);
    if (c->in >= 0) {
        c->in_buffer = mmap(NULL, STDIN_WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (c->in_buffer == MAP_FAILED) c->in_buffer = NULL;
        else memcpy(c->in_buffer, ask.input, c->in_length = ask.input_length);
    }
}

static void close_input(struct call *c) {
    if (c->in >= 0 && !c->tty) close(c->in);
    if (c->in >= 0 && c->tty && write(c->in, "\x04", 1) < 0) {}   /* end of file, as a terminal says it */
    if (!c->tty) c->in = -1;
    c->in_end = false;
}

static void write_input(struct call *c) {
    uint64_t before = c->in_taken;
    while (c->in_length) {
        ssize_t n = write(c->in, c->in_buffer + c->in_start, c->in_length);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n < 0) {   /* closed by the command: what it did not want is taken as read */
            c->in_taken += c->in_length;
            c->in_length = 0;
            close(c->in);
            c->in = -1;
            break;
        }
        c->in_start += (size_t)n;
        c->in_length -= (size_t)n;
        c->in_taken += (uint64_t)n;
    }
    if (!c->in_length) {
        c->in_start = 0;
        if (c->in_end && c->in >= 0) close_input(c);
    }
    if (c->in_taken != before || c->in < 0) {
        uint64_t payload[2] = {c->in_taken, c->in < 0};
        wire_reply(STDIN_CREDIT, c->id, payload, sizeof payload);
    }
}

static void take_input(struct call *c, const struct header *h, const uint8_t *payload) {
    if (c->in < 0) {
        uint64_t closed[2] = {UINT64_MAX, 1};
        return wire_reply(STDIN_CREDIT, c->id, closed, sizeof closed);
    }
    if (!c->in_buffer || h->length > STDIN_WINDOW - c->in_length) return wire_fail(c->id, EPROTO);
    memmove(c->in_buffer, c->in_buffer + c->in_start, c->in_length);
    c->in_start = 0;
    memcpy(c->in_buffer + c->in_length, payload, h->length);
    c->in_length += h->length;
    c->in_end = c->in_end || h->flag & FLAG_END;
    write_input(c);
}

/* The first pass asks, the later ones do not. Ends when the supervisor does, which is when its descent is empty. */
static void end_descent(struct call *c, uint32_t reason, bool at_once) {
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
    release(c);
    return false;
}

static void hear_supervisor(struct call *c) {
    struct farewell word;
    while (c->supervisor >= 0 && read(supervisor_socket(c->supervisor), &word, sizeof word) == sizeof word) {
        if (word.kind == ENDED || word.kind == ENDED_ALONE) main_ended(c, word.status, &word.usage);
        if (word.kind == ENDED) continue;
        supervisor_end(c->supervisor);
        if (word.kind == NEVER_BEGAN) {
            wire_fail(c->id, word.status);
            return release(c);
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

/* Supervisors end when they are let go; one that ended otherwise was killed by the guest. */
void call_child_ended(pid_t pid, int status) {
    int which = -1;
    for (int i = 0; i < used; i++) {
        if (calls[i].state == UNUSED || supervisor_pid(calls[i].supervisor) != pid) continue;
        hear_supervisor(&calls[i]);
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

static bool reportable(const struct call *c) {
    bool killed = c->kill_at >= 0 && c->supervisor >= 0;   /* what was ended is reported once all of it has gone */
    return c->state == RUNNING && c->main_ended && !killed && stream_drained(&c->out) && stream_drained(&c->err);
}

static void report(struct call *c) {
    struct result *r = &c->result;
    if (!c->settled) {
        r->jobs = c->supervisor < 0 ? 0 : (uint32_t)proc_count(supervisor_pid(c->supervisor));
        r->out_total = c->out.total;
        r->err_total = c->err.total;
        r->out_kept = (uint32_t)stream_kept(&c->out);
        r->err_kept = (uint32_t)stream_kept(&c->err);
        r->flags |= (c->out.was_spilled ? RESULT_SPILL_OUT : 0) | (c->err.was_spilled ? RESULT_SPILL_ERR : 0);
        c->settled = true;
    }
    size_t length = sizeof *r, all = (size_t)r->out_kept + r->err_kept;
    uint8_t *p = wire_payload();
    memcpy(p, r, sizeof *r);
    if (all <= FRAME_MAX - sizeof *r) {   /* else the host fetches it */
        length += stream_copy(&c->out, 0, r->out_kept, p + length);
        length += stream_copy(&c->err, 0, r->err_kept, p + length);
    }
    wire_send(DONE, FLAG_END, c->id, length);
    c->state = KEPT;
}

void calls_report(void) {
    for (int i = 0; i < used; i++) {
        struct call *c = &calls[i];
        if (c->state == RUNNING && c->out.carried) {
            stream_carry(&c->out, c->id, 1);
            stream_carry(&c->err, c->id, 2);
        }
        if (reportable(c) && wire_room()) report(c);
    }
}

static void acknowledge(struct call *c) {
    if (c->state != KEPT) return;
    forgotten[forgotten_next++ % (sizeof forgotten / sizeof *forgotten)] = c->id;
    if (c->supervisor < 0) return release(c);
    c->state = JOBS;
    stream_restart(&c->out);
    stream_restart(&c->err);
}

static void peek(struct call *c, const uint8_t *payload) {
    uint64_t want = get64(payload), shape[4] = {c->out.total, c->err.total, c->state == RUNNING && !c->main_ended, 0};
    if (want > 24 * 1024) want = 24 * 1024;
    uint8_t *p = wire_payload();
    size_t first = stream_last(&c->out, (size_t)want, p + sizeof shape);
    size_t second = stream_last(&c->err, (size_t)want, p + sizeof shape + first);
    shape[3] = first;
    memcpy(p, shape, sizeof shape);
    wire_send(OK, FLAG_END, c->id, sizeof shape + first + second);
}

static void fetch(struct call *c, const uint8_t *payload) {
    uint64_t from = get64(payload), out = c->result.out_kept;
    uint8_t *p = wire_payload();
    size_t n = from < out ? stream_copy(&c->out, (size_t)from, FRAME_MAX, p)
                          : stream_copy(&c->err, (size_t)(from - out), FRAME_MAX, p);
    wire_send(DATA, FLAG_END, c->id, n);
}

void call_request(const struct header *h, const uint8_t *payload) {
    struct call *c = find(h->id);
    if (!c) {
        if (h->type == PEEK || h->type == FETCH || h->type == STDIN) wire_fail(h->id, was_done(h->id) ? ALREADY_DONE : ESRCH);
        return;
    }
    switch (h->type) {
    case STDIN: take_input(c, h, payload); break;
    case SIGNAL:
        if (c->main_ended || h->aux < 1 || h->aux > 64) break;
        c->signal = h->aux;
        signal_main(c);
        break;
    case KILL: end_descent(c, h->aux & KILL_CANCEL ? RESULT_CANCELLED : 0, h->aux & KILL_NOW); break;
    case ACK: acknowledge(c); break;
    case CREDIT: {
        struct stream *s = h->flag == 1 ? &c->out : &c->err;
        if (h->length == 8 && s->carried && get64(payload) <= s->sent && get64(payload) > s->credit) s->credit = get64(payload);
        break;
    }
    case PEEK: if (h->length == 8) peek(c, payload); break;
    case FETCH: if (h->length == 8 && c->state == KEPT) fetch(c, payload); break;
    case RESIZE:
        if (c->tty && c->in >= 0 && h->length == 4) {
            struct winsize size = {.ws_row = (uint16_t)(payload[0] | payload[1] << 8), .ws_col = (uint16_t)(payload[2] | payload[3] << 8)};
            pid_t foreground;
            ioctl(c->in, TIOCSWINSZ, &size);
            /* gVisor keeps the new size and tells nobody; it does not say here who is in the foreground either. */
            if (ioctl(c->in, TIOCGPGRP, &foreground) && errno == ENOTTY) proc_tell(supervisor_pid(c->supervisor), SIGWINCH);
        }
        break;
    }
}

/* id, processes alive, state: of every call there is. */
void calls_list(uint64_t id, uint8_t type) {
    static pid_t roots[MAX_CALLS];
    static int counts[MAX_CALLS];
    for (int i = 0; i < used; i++) roots[i] = calls[i].state == UNUSED ? 0 : supervisor_pid(calls[i].supervisor);
    proc_counts(roots, counts, used);
    uint8_t *p = wire_payload();
    uint32_t version = WIRE_VERSION, listed = 0;
    for (int i = 0; i < used; i++) {
        if (calls[i].state == UNUSED) continue;
        uint32_t facts[2] = {(uint32_t)counts[i], (uint32_t)calls[i].state};
        memcpy(p + 8 + 16 * listed, &calls[i].id, 8);
        memcpy(p + 16 + 16 * listed++, facts, 8);
    }
    memcpy(p, &version, 4);
    memcpy(p + 4, &listed, 4);
    wire_send(type, FLAG_END, id, 8 + 16 * (size_t)listed);
}

int calls_roots(pid_t roots[MAX_CALLS], uint64_t ids[MAX_CALLS]) {
    for (int i = 0; i < used; i++) {
        roots[i] = calls[i].state == UNUSED ? 0 : supervisor_pid(calls[i].supervisor);
        ids[i] = calls[i].id;
    }
    return used;
}

/* A new host: it is told every result again, and gets what was carried from its last credit on. */
void calls_reconnected(void) {
    for (int i = 0; i < used; i++) {
        struct call *c = &calls[i];
        if (c->state == KEPT) c->state = RUNNING;
        c->out.sent = c->out.credit;
        c->err.sent = c->err.credit;
    }
}

int calls_pollfds(struct pollfd *fds) {
    int n = 0;
    for (int i = 0; i < used; i++) {
        struct call *c = &calls[i];
        bool reading = c->state == RUNNING || c->state == JOBS;
        if (c->state == UNUSED) continue;
        bool carried_over = c->settled && c->state == RUNNING;   /* kept, and to be reported again: frozen */
        if (c->supervisor >= 0) fds[n++] = (struct pollfd){.fd = supervisor_socket(c->supervisor), .events = POLLIN};
        if (reading && !carried_over && stream_wants(&c->out)) fds[n++] = (struct pollfd){.fd = c->out.fd, .events = POLLIN};
        if (reading && !carried_over && stream_wants(&c->err)) fds[n++] = (struct pollfd){.fd = c->err.fd, .events = POLLIN};
        if (c->in >= 0 && (c->in_length || c->in_end)) fds[n++] = (struct pollfd){.fd = c->in, .events = POLLOUT};
    }
    return n;
}

static bool ready(const struct pollfd *fds, int count, int fd) {
    for (int i = 0; i < count; i++)
        if (fds[i].fd == fd) return fds[i].revents != 0;
    return false;
}

void calls_serve(const struct pollfd *fds, int count) {
    for (int i = 0; i < used && wire_room(); i++) {
        struct call *c = &calls[i];
        if (c->state == UNUSED) continue;
        bool frozen = c->state == KEPT || (c->settled && c->state == RUNNING);
        if (!frozen && c->in >= 0 && (c->in_length || c->in_end) && ready(fds, count, c->in)) write_input(c);
        if (!frozen && c->out.fd >= 0 && stream_wants(&c->out) && ready(fds, count, c->out.fd)) stream_read(&c->out);
        if (!frozen && c->err.fd >= 0 && stream_wants(&c->err) && ready(fds, count, c->err.fd)) stream_read(&c->err);
        if (c->supervisor >= 0 && ready(fds, count, supervisor_socket(c->supervisor))) hear_supervisor(c);
        while (c->main_ended && !c->settled && c->out.drain > 0 && stream_wants(&c->out)) stream_read(&c->out);
        while (c->main_ended && !c->settled && c->err.drain > 0 && stream_wants(&c->err)) stream_read(&c->err);
    }
}

static int64_t sooner(int64_t wait, int64_t at, int64_t now) {
    if (at < 0) return wait;
    int64_t left = at > now ? at - now : 0;
    return wait < 0 || left < wait ? left : wait;
}

int64_t calls_tick(int64_t now) {
    int64_t wait = -1;
    for (int i = 0; i < used; i++) {
        struct call *c = &calls[i];
        if (c->state == UNUSED) continue;
        if (c->signal && !c->main_ended) {
            signal_main(c);
            wait = c->signal ? 1 : wait;
        }
        if (c->deadline >= 0 && now >= c->deadline) end_descent(c, RESULT_TIMED_OUT, false);
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
