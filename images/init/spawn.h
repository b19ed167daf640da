/* Starting one command: what was asked, who starts it, what came of it. */
#ifndef USERMODE_SPAWN_H
#define USERMODE_SPAWN_H

#include "init.h"

#include <sys/wait.h>

enum { SPAWN_FDS = 4 };   /* what goes to a supervisor: the directory, stdin, stdout, stderr */

struct spawn_request {
    uint32_t flags, timeout_ms, grace_ms, output_bytes;
    uint64_t spill_bytes;
    uint16_t rows, columns;
    const char *cwd;
    const uint8_t *input;
    size_t input_length;
    char *argv[MAX_ARGS + 1], *env[MAX_ENV + 1];
};

struct spawned {
    int supervisor, in, out, err;   /* a supervisor's number, and init's ends of the command's streams */
};

/* What a supervisor says. */
struct farewell {
    enum { ENDED = 1, ENDED_ALONE, EMPTY, NEVER_BEGAN } kind;   /* the main process; with it all; the last of the rest */
    int status;            /* as waitpid gave it; of NEVER_BEGAN an errno */
    struct result usage;   /* only the times and the memory */
};

/* command.c */
bool spawn_parse(const uint8_t *request, size_t length, struct spawn_request *ask);
_Noreturn void become_command(const struct spawn_request *ask, const int fds[SPAWN_FDS]);
void close_from(int first);

/* spawn.c */
int spawn(const struct spawn_request *ask, const uint8_t *request, size_t length, struct spawned *child);   /* 0 or errno */

/* supervisor.c */
void supervisors_init(void);
void supervisor_ready(void);             /* one waits from the beginning */
int supervisor_begin(const uint8_t *request, size_t length, const int fds[SPAWN_FDS]);
void supervisor_end(int which);          /* its descent is empty: it may be used again */
int supervisor_reaped(pid_t pid);        /* which one it was, or -1 */
pid_t supervisor_pid(int which);
int supervisor_socket(int which);
pid_t supervisor_main(int which);        /* the command's main process; 0 until it is known */
int supervisor_pids(pid_t pids[MAX_CALLS]);

#endif
