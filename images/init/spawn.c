/* Starting one command: pipes or a terminal, and a supervisor to hand it to. */
#include "spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct ends { int in, out, err; };   /* the command's */

static int open_terminal(const struct spawn_request *ask, struct spawned *child, struct ends *e) {
    struct winsize size = {.ws_row = ask->rows, .ws_col = ask->columns};
    int zero = 0, number;
    char name[32];
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0) return errno;
    int error = ioctl(master, TIOCSPTLCK, &zero) < 0 || ioctl(master, TIOCGPTN, &number) < 0 ? errno : 0;
    if (!error) snprintf(name, sizeof name, "/dev/pts/%d", number);
    e->in = error ? -1 : open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (e->in < 0) error = error ? error : errno;
    child->in = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (error || child->in < 0) {
        close(master);
        return error ? error : errno;
    }
    ioctl(master, TIOCSWINSZ, &size);
    e->out = e->err = e->in;
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

int spawn(const struct spawn_request *ask, const uint8_t *request, size_t length, struct spawned *child) {
    struct ends e = {-1, -1, -1};
    *child = (struct spawned){.supervisor = -1, .in = -1, .out = -1, .err = -1};
    int cwd = open(ask->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (cwd < 0) return errno;
    int error = faccessat(cwd, ".", X_OK, AT_EACCESS) ? errno : ask->flags & SPAWN_TTY ? open_terminal(ask, child, &e)
                                                                              : open_pipes(ask, child, &e);
    if (!error) {
        child->supervisor = supervisor_begin(request, length, (int[SPAWN_FDS]){cwd, e.in, e.out, e.err});
        error = child->supervisor < 0 ? -child->supervisor : 0;
    }
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
