/* A command: reading what is asked, and becoming it. */
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct fixed {   /* little-endian, then cwd, argv and env as strings, then standard input */
    uint32_t flags, timeout_ms, grace_ms, output_bytes;
    uint64_t spill_bytes;
    uint16_t rows, columns;
    uint16_t argc, envc;
    uint32_t input_length, zero;
};

static const char *take_string(const uint8_t **at, const uint8_t *end) {
    const uint8_t *zero = memchr(*at, 0, (size_t)(end - *at));
    const char *text = (const char *)*at;
    if (!zero) return NULL;
    *at = zero + 1;
    return text;
}

bool spawn_parse(const uint8_t *request, size_t length, struct spawn_request *ask) {
    struct fixed f;
    if (length < sizeof f) return false;
    memcpy(&f, request, sizeof f);
    const uint8_t *at = request + sizeof f, *end = request + length;
    if (f.input_length > (size_t)(end - at) || f.input_length > STDIN_WINDOW || f.zero) return false;
    if (!f.argc || f.argc > MAX_ARGS || f.envc > MAX_ENV || f.output_bytes < 2 || f.output_bytes > OUTPUT_MAX) return false;
    end -= f.input_length;
    ask->flags = f.flags;
    ask->timeout_ms = f.timeout_ms;
    ask->grace_ms = f.grace_ms;
    ask->output_bytes = f.output_bytes;
    ask->spill_bytes = f.spill_bytes;
    ask->rows = f.rows;
    ask->columns = f.columns;
    ask->input = end;
    ask->input_length = f.input_length;
    ask->argv[f.argc] = ask->env[f.envc] = NULL;
    if (!(ask->cwd = take_string(&at, end))) return false;
    for (int i = 0; i < f.argc; i++)
        if (!(ask->argv[i] = (char *)(uintptr_t)take_string(&at, end))) return false;
    for (int i = 0; i < f.envc; i++)
        if (!(ask->env[i] = (char *)(uintptr_t)take_string(&at, end))) return false;
    return at == end;
}

static void say(const char *program, const char *why) {
    char text[512];
    int n = snprintf(text, sizeof text, "usermode: %.400s: %s\n", program, why);
    if (n > 0 && write(2, text, (size_t)n) < 0) {}
}

static const char *path_of(char *const *env) {
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* Only comes back when the program cannot be run: with 127 where there is none, 126 where it is not executable. */
static int execute(char *const *argv, char *const *env) {
    char candidate[4096];
    int found = ENOENT;
    if (strchr(argv[0], '/')) {
        execve(argv[0], argv, env);
        found = errno;
    } else if (argv[0][0]) {
        for (const char *at = path_of(env); at; at = *at ? at + 1 : NULL) {
            const char *end = strchrnul(at, ':');
            int n = snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(end - at), at, argv[0]);
            errno = ENOENT;
            if (n > 0 && n < (int)sizeof candidate && end > at && access(candidate, F_OK) == 0) execve(candidate, argv, env);
            if (errno != ENOENT && errno != ENOTDIR) found = errno;
            at = end;
        }
    }
    bool missing = found == ENOENT || found == ENOTDIR;
    say(argv[0], missing ? "no such program" : strerror(found));
    return missing ? 127 : 126;
}

void close_from(int first) {
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
    for (int fd = first; fd < 4096; fd++) close(fd);
}

_Noreturn void become_command(const struct spawn_request *ask, const int fds[SPAWN_FDS]) {
    sigset_t none;
    setsid();
    if (ask->flags & SPAWN_TTY) ioctl(fds[1], TIOCSCTTY, 0);
    if (dup2(fds[1], 0) < 0 || dup2(fds[2], 1) < 0 || dup2(fds[3], 2) < 0 || fchdir(fds[0]) < 0) _exit(126);
    close_from(3);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(execute(ask->argv, ask->env));
}
