/* Commands: what is asked of them, and what is told of them.
 *
 * Every call runs under a supervisor, which starts it, waits, and says what came of it.
 */
#include "call.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

void call_spawn(uint64_t id, const uint8_t *request, size_t length) {
    struct call *c = call_find(id);
    if (c) {                       /* at most once: whoever asks again learns what came of it */
        if (c->state == KEPT) c->state = RUNNING;
        if (c->state == JOBS) wire_fail(id, ALREADY_DONE);
        return;
    }
    if (call_was_done(id)) return wire_fail(id, ALREADY_DONE);
    if (!(c = call_slot())) return wire_fail(id, EBUSY);

    static struct spawn_request ask;
    if (!spawn_parse(request, length, &ask)) return wire_fail(id, EINVAL);
    struct spawned child;
    uint64_t began = now_us();
    long before = ooms();
    int error = spawn(&ask, request, length, &child);
    if (error) return wire_fail(id, error);

    if (c - calls >= calls_used) calls_used = (int)(c - calls) + 1;
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
    for (int i = 0; i < calls_used; i++) {
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
    call_done(c->id);
    if (c->supervisor < 0) return call_release(c);
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
    struct call *c = call_find(h->id);
    if (!c) {
        if (h->type == PEEK || h->type == FETCH || h->type == STDIN) wire_fail(h->id, call_was_done(h->id) ? ALREADY_DONE : ESRCH);
        return;
    }
    switch (h->type) {
    case STDIN: call_take_input(c, h, payload); break;
    case SIGNAL: call_signal(c, h->aux); break;
    case KILL: call_end(c, h->aux & KILL_CANCEL ? RESULT_CANCELLED : 0, h->aux & KILL_NOW); break;
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
    for (int i = 0; i < calls_used; i++) roots[i] = calls[i].state == UNUSED ? 0 : supervisor_pid(calls[i].supervisor);
    proc_counts(roots, counts, calls_used);
    uint8_t *p = wire_payload();
    uint32_t version = WIRE_VERSION, listed = 0;
    for (int i = 0; i < calls_used; i++) {
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
    for (int i = 0; i < calls_used; i++) {
        roots[i] = calls[i].state == UNUSED ? 0 : supervisor_pid(calls[i].supervisor);
        ids[i] = calls[i].id;
    }
    return calls_used;
}

/* A new host: it is told every result again, and gets what was carried from its last credit on. */
void calls_reconnected(void) {
    for (int i = 0; i < calls_used; i++) {
        struct call *c = &calls[i];
        if (c->state == KEPT) c->state = RUNNING;
        c->out.sent = c->out.credit;
        c->err.sent = c->err.credit;
    }
}

int calls_pollfds(struct pollfd *fds) {
    int n = 0;
    for (int i = 0; i < calls_used; i++) {
        struct call *c = &calls[i];
        bool reading = c->state == RUNNING || c->state == JOBS;
        if (c->state == UNUSED) continue;
        bool carried_over = c->settled && c->state == RUNNING;   /* kept, and to be reported again: frozen */
        if (c->supervisor >= 0) fds[n++] = (struct pollfd){.fd = supervisor_socket(c->supervisor), .events = POLLIN};
        if (reading && !carried_over && stream_wants(&c->out)) fds[n++] = (struct pollfd){.fd = c->out.fd, .events = POLLIN};
        if (reading && !carried_over && stream_wants(&c->err)) fds[n++] = (struct pollfd){.fd = c->err.fd, .events = POLLIN};
        if (call_has_input(c)) fds[n++] = (struct pollfd){.fd = c->in, .events = POLLOUT};
    }
    return n;
}

static bool ready(const struct pollfd *fds, int count, int fd) {
    for (int i = 0; i < count; i++)
        if (fds[i].fd == fd) return fds[i].revents != 0;
    return false;
}

void calls_serve(const struct pollfd *fds, int count) {
    for (int i = 0; i < calls_used && wire_room(); i++) {
        struct call *c = &calls[i];
        if (c->state == UNUSED) continue;
        bool frozen = c->state == KEPT || (c->settled && c->state == RUNNING);
        if (!frozen && call_has_input(c) && ready(fds, count, c->in)) call_write_input(c);
        if (!frozen && c->out.fd >= 0 && stream_wants(&c->out) && ready(fds, count, c->out.fd)) stream_read(&c->out);
        if (!frozen && c->err.fd >= 0 && stream_wants(&c->err) && ready(fds, count, c->err.fd)) stream_read(&c->err);
        if (c->supervisor >= 0 && ready(fds, count, supervisor_socket(c->supervisor))) call_hear(c);
        while (c->main_ended && !c->settled && c->out.drain > 0 && stream_wants(&c->out)) stream_read(&c->out);
        while (c->main_ended && !c->settled && c->err.drain > 0 && stream_wants(&c->err)) stream_read(&c->err);
    }
}
