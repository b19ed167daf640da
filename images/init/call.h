/* One command that was asked for, from its request until it is forgotten. */
#ifndef USERMODE_CALL_H
#define USERMODE_CALL_H

#include "spawn.h"

enum state { UNUSED, RUNNING, KEPT, JOBS };   /* KEPT: reported, not yet acknowledged; JOBS: only descendants live on */

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

/* table.c */
extern struct call calls[MAX_CALLS];
extern int calls_used;                   /* no slot from here on was ever taken */
struct call *call_find(uint64_t id);
struct call *call_slot(void);            /* one that is free, or NULL */
bool call_was_done(uint64_t id);
void call_done(uint64_t id);
void call_release(struct call *c);

/* input.c */
bool call_has_input(const struct call *c);
void call_write_input(struct call *c);   /* what the command would take now */
void call_take_input(struct call *c, const struct header *h, const uint8_t *payload);

/* ending.c */
void call_end(struct call *c, uint32_t reason, bool at_once);
void call_hear(struct call *c);          /* its supervisor */
void call_signal(struct call *c, int signal);

#endif
