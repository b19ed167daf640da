/* Starting one command: what was asked, what came of it. */
#ifndef USERMODE_SPAWN_H
#define USERMODE_SPAWN_H

#include "init.h"

#include <sys/wait.h>

struct spawn_request {
    uint32_t flags, timeout_ms, grace_ms, output_bytes;
    uint64_t spill_bytes;
    uint16_t rows, columns;
    const char *cwd;
    char *argv[MAX_ARGS + 1], *env[MAX_ENV + 1];
    const uint8_t *input;
    size_t input_length;
};

struct spawned {
    pid_t supervisor;
    int status, in, out, err;
};

/* What a supervisor says when the main process has ended. */
struct farewell {
    int status;            /* as waitpid gave it */
    int alone;             /* nothing else of the call was left */
    struct result usage;   /* only the times and the memory */
};

void spawn_init(void);
bool spawn_parse(const uint8_t *request, size_t length, struct spawn_request *ask);
/* 0 or errno; nothing was started then. `main` is shared with the supervisor, which writes the main process's pid there,
 * or minus errno where it could not be forked; 0 until then. */
int spawn(const struct spawn_request *ask, volatile pid_t *main, struct spawned *child);

#endif
