/* The calls that there are, and the ids of those that were. */
#include "call.h"

#include <sys/mman.h>
#include <unistd.h>

struct call calls[MAX_CALLS];
int calls_used;
static uint64_t forgotten[4096];         /* ids that were acknowledged, so that none runs twice */
static unsigned forgotten_next;

struct call *call_find(uint64_t id) {
    for (int i = 0; i < calls_used; i++)
        if (calls[i].state != UNUSED && calls[i].id == id) return &calls[i];
    return NULL;
}

struct call *call_slot(void) {
    for (int i = 0; i < MAX_CALLS; i++)
        if (calls[i].state == UNUSED) return &calls[i];
    return NULL;
}

bool call_was_done(uint64_t id) {
    for (size_t i = 0; i < sizeof forgotten / sizeof *forgotten; i++)
        if (forgotten[i] == id) return true;
    return false;
}

void call_done(uint64_t id) { forgotten[forgotten_next++ % (sizeof forgotten / sizeof *forgotten)] = id; }

void call_release(struct call *c) {
    stream_close(&c->out);
    stream_close(&c->err);
    if (c->in >= 0) close(c->in);
    if (c->in_buffer) munmap(c->in_buffer, STDIN_WINDOW);
    *c = (struct call){.state = UNUSED, .in = -1, .supervisor = -1};
}
