/* What goes to a command's standard input: as much as it takes, the rest is kept until it does. */
#include "call.h"

#include <unistd.h>

bool call_has_input(const struct call *c) { return c->in >= 0 && (c->in_length || c->in_end); }

static void close_input(struct call *c) {
    if (c->in >= 0 && !c->tty) close(c->in);
    if (c->in >= 0 && c->tty && write(c->in, "\x04", 1) < 0) {}   /* end of file, as a terminal says it */
    if (!c->tty) c->in = -1;
    c->in_end = false;
}

void call_write_input(struct call *c) {
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

void call_take_input(struct call *c, const struct header *h, const uint8_t *payload) {
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
    call_write_input(c);
}
