/* Starting one command: pipes or a terminal, the supervisor, and the command itself. */
#include "spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char own_score[16];

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
    *ask = (struct spawn_request){
        .flags = f.flags, .timeout_ms = f.timeout_ms, .grace_ms = f.grace_ms, .output_bytes = f.output_bytes,
        .spill_bytes = f.spill_bytes, .rows = f.rows, .columns = f.columns, .input = end, .input_length = f.input_length,
    };
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
            if (n > 0 && n < (int)sizeof candidate && end > at) execve(candidate, argv, env);
            if (errno != ENOENT && errno != ENOTDIR) found = errno;
            errno = ENOENT;
            at = end;
        }
    }
    bool missing = found == ENOENT || found == ENOTDIR;
    say(argv[0], missing ? "no such program" : strerror(found));
    return missing ? 127 : 126;
}

static void close_from(int first) {
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
    for (int fd = first; fd < 4096; fd++) close(fd);
}

/* What is forked between the two calls is offered to the out-of-memory killer before PID 1 is. */
static void oom_score(const char *score) {
    static int fd = -2;
    if (fd == -2) fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && pwrite(fd, score, strlen(score), 0) < 0) {}
}

void spawn_init(void) {
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, own_score, sizeof own_score - 1);
    if (fd >= 0) close(fd);
    if (n <= 0) own_score[0] = 0;
    oom_score(own_score);   /* opens it while this process is still its own to write */
}

struct ends { int in, out, err, terminal; };

static _Noreturn void become_command(const struct spawn_request *ask, struct ends e, int cwd) {
    sigset_t none;
    setsid();
    if (e.terminal >= 0) ioctl(e.terminal, TIOCSCTTY, 0);
    if (dup2(e.in, 0) < 0 || dup2(e.out, 1) < 0 || dup2(e.err, 2) < 0 || fchdir(cwd) < 0) _exit(126);
    close_from(3);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    _exit(execute(ask->argv, ask->env));
}

static uint64_t microseconds(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

/* Waits, and says what became of the main process. Holds nothing but its socket. */
static _Noreturn void supervise(pid_t main, int socket) {
    struct rusage use;
    int status;
    for (;;) {
        pid_t pid = wait4(-1, &status, 0, &use);
        if (pid == main) {
            siginfo_t left;
            int alone = waitid(P_ALL, 0, &left, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
            struct farewell word = {.status = status, .alone = alone, .usage = {.user_us = microseconds(use.ru_utime),
                .system_us = microseconds(use.ru_stime), .rss_kb = (uint64_t)use.ru_maxrss}};
            if (write(socket, &word, sizeof word) < 0) _exit(1);
        } else if (pid < 0 && errno != EINTR) {
            _exit(0);
        }
    }
}

static _Noreturn void become_supervisor(const struct spawn_request *ask, struct ends e, int cwd, int socket, volatile pid_t *told) {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setsid();   /* away from the group of whatever signals its own */
    volatile pid_t main = vfork();   /* the command borrows this memory until it has become another program */
    if (main == 0) become_command(ask, e, cwd);
    *told = main < 0 ? -errno : main;
    if (main < 0) _exit(0);
    dup2(socket, 3);
    close(0); close(1); close(2);
    close_from(4);
    supervise(main, 3);
}

static int open_terminal(const struct spawn_request *ask, struct spawned *child, struct ends *e) {
    struct winsize size = {.ws_row = ask->rows, .ws_col = ask->columns};
    int zero = 0, number;
    char name[32];
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0) return errno;
    int error = ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &number) < 0 ? errno : 0;
    if (!error) snprintf(name, sizeof name, "/dev/pts/%d", number);
    e->terminal = error ? -1 : open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (e->terminal < 0) error = error ? error : errno;
    child->in = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (error || child->in < 0) {
        close(master);
        return error ? error : errno;
    }
    ioctl(master, TIOCSWINSZ, &size);
    e->in = e->out = e->err = e->terminal;
    child->out = master;
    return 0;
}

static int open_pipes(const struct spawn_request *ask, struct spawned *child, struct ends *e) {
    int in[2] = {-1, -1}, out[2], err[2];
    bool input = ask->flags & SPAWN_STDIN || ask->input_length;
    if (input ? pipe2(in, O_CLOEXEC) : (in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0) return errno;
    e->in = in[0];
    child->in = in[1];
    if (pipe2(out, O_CLOEXEC)) return errno;
    e->out = out[1];
    child->out = out[0];
    if (pipe2(err, O_CLOEXEC)) return errno;
    e->err = err[1];
    child->err = err[0];
    if (input) fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    return 0;
}

static void close_if(int fd) {
    if (fd >= 0) close(fd);
}

static int fork_supervisor(const struct spawn_request *ask, struct ends e, int cwd, volatile pid_t *main, struct spawned *child) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return errno;
    oom_score("900");
    child->supervisor = fork();
    int error = errno;
    if (child->supervisor == 0) become_supervisor(ask, e, cwd, pair[1], main);
    oom_score(own_score);
    close(pair[1]);
    if (child->supervisor < 0) {
        close(pair[0]);
        return error;
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    child->status = pair[0];
    return 0;
}

int spawn(const struct spawn_request *ask, volatile pid_t *main, struct spawned *child) {
    struct ends e = {-1, -1, -1, -1};
    *child = (struct spawned){.status = -1, .in = -1, .out = -1, .err = -1};
    *main = 0;
    int cwd = open(ask->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cwd < 0) return errno;
    int error = faccessat(cwd, ".", X_OK, 0) ? errno : ask->flags & SPAWN_TTY ? open_terminal(ask, child, &e)
                                                                              : open_pipes(ask, child, &e);
    if (!error) error = fork_supervisor(ask, e, cwd, main, child);
    close(cwd);
    close_if(e.in);
    if (e.out != e.in) close_if(e.out);
    if (e.err != e.out && e.err != e.in) close_if(e.err);
    if (error) {
        close_if(child->in);
        close_if(child->out);
        close_if(child->err);
    }
    return error;
}
