/* init: PID 1 of a session, the guest's end of the wire. One thread, one loop; the protocol is in PROTOCOL.md. */
#include "init.h"
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t lease_ms = 60 * 1000, heard_at;   /* without a word from a host for this long, it is over */
static uint8_t request[REQUEST_MAX];
static size_t request_length;
static uint64_t request_id;

static void take_lease(uint64_t ms) { lease_ms = ms > INT32_MAX ? INT32_MAX : (int64_t)ms; }

static void hello(const struct header *h, const uint8_t *payload) {
    if (h->length != 28 || get32(payload) != WIRE_VERSION) exit(3);
    request_length = 0;
    files_reset();
    take_lease(get64(payload + 4));
    wire_greet(h->epoch, payload + 12);
    calls_list(h->id, WELCOME);
    calls_reconnected();
    conns_let_go();
}

/* A spawn may come in parts, one after the other. */
static void gather(const struct header *h, const uint8_t *payload) {
    if (h->id != request_id) request_length = 0;
    request_id = h->id;
    if (h->length > sizeof request - request_length) {
        request_length = 0;
        return wire_fail(h->id, E2BIG);
    }
    memcpy(request + request_length, payload, h->length);
    request_length += h->length;
    if (h->flag & FLAG_MORE) return;
    call_spawn(h->id, request, request_length);
    request_length = 0;
}

static void dispatch(const struct header *h, const uint8_t *payload) {
    switch (h->type) {
    case HELLO: hello(h, payload); break;
    case SPAWN: gather(h, payload); break;
    case STDIN: case SIGNAL: case KILL: case ACK: case CREDIT: case PEEK: case FETCH: case RESIZE:
        call_request(h, payload);
        break;
    case READ: case WRITE: case WRITE_DATA: case STAT: case LIST: file_request(h, payload); break;
    case CALLS: calls_list(h->id, OK); break;
    case GLANCE: glance(h->id); break;
    case PING: wire_reply(OK, h->id, NULL, 0); break;
    case LEASE:
        if (h->length == 8) take_lease(get64(payload));
        wire_reply(OK, h->id, NULL, 0);
        break;
    case SHUTDOWN: exit(0);
    case LISTEN: case CONNECT: case STREAM: case STREAM_CREDIT: case STREAM_ABORT: conn_request(h, payload); break;
    default: wire_fail(h->id, ENOSYS);
    }
}

static void reap(int signals) {
    struct signalfd_siginfo info;
    pid_t pid;
    int status;
    while (read(signals, &info, sizeof info) == sizeof info) {}
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) call_child_ended(pid, status);
}

static int prepare(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    umask(022);
    supervisors_init();
    prctl(PR_SET_DUMPABLE, 0);     /* no /proc/1/fd, no /proc/1/mem, no ptrace: the wire cannot be had */
    fcntl(0, F_SETFD, FD_CLOEXEC);
    fcntl(1, F_SETFD, FD_CLOEXEC);
    fcntl(0, F_SETFL, O_NONBLOCK);
    fcntl(1, F_SETFL, O_NONBLOCK);
    fcntl(0, F_SETPIPE_SZ, 1 << 20);
    fcntl(1, F_SETPIPE_SZ, 1 << 20);
    mkdir("/tmp/.spill", 0700);
    wire_init();
    streams_init();
    proc_init();
    calls_init();
    conns_init();
    supervisor_ready();
    heard_at = now_ms();
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* The kernel refuses a list longer than the limit of open files, also where most of it is empty. */
static int poll_open(struct pollfd *fds, int count, int wait) {
    static struct pollfd open[3 + 4 * MAX_CALLS + CONN_POLLFDS];
    static int from[3 + 4 * MAX_CALLS + CONN_POLLFDS];
    int used = 0;
    for (int i = 0; i < count; i++) {
        fds[i].revents = 0;
        if (fds[i].fd < 0) continue;
        from[used] = i;
        open[used++] = fds[i];
    }
    int ready = poll(open, (nfds_t)used, wait);
    for (int i = 0; ready > 0 && i < used; i++) fds[from[i]].revents = open[i].revents;
    return ready;
}

int main(int count, char **words) {
    if (count > 1 && strcmp(words[1], "root") == 0) return root_run();   /* beside PID 1, never as it */
    if (count > 1 && strcmp(words[1], "as") == 0) become_user(words + 1);
    if (count > 1 && strcmp(words[1], "probe") == 0) return probe();     /* an ordinary command, never PID 1 */
    static struct pollfd fds[3 + 4 * MAX_CALLS + CONN_POLLFDS];
    const uint8_t *payload;
    const struct header *h;
    int signals = prepare();
    bool waiting = false;   /* a whole request lies there, but there was no room to answer it */
    for (;;) {
        int64_t now = now_ms(), wait = calls_tick(now), lease = heard_at + lease_ms - now;
        if (lease <= 0) exit(0);
        if (wait < 0 || wait > lease) wait = lease;
        bool room = wire_room();
        if (room && (files_pending() || waiting)) wait = 0;
        fds[0] = (struct pollfd){.fd = signals, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = room ? wire_in : -1, .events = POLLIN};
        fds[2] = (struct pollfd){.fd = wire_pending() ? wire_out : -1, .events = POLLOUT};
        int count = 3 + calls_pollfds(fds + 3);
        int places = conns_pollfds(fds + count);
        if (poll_open(fds, count + places, (int)wait) < 0 && errno != EINTR) exit(4);

        if (fds[1].revents) {
            int n = wire_fill();
            if (n == 0) exit(0);           /* the engine closed it for good */
            if (n > 0) heard_at = now_ms();
        }
        waiting = true;
        while (wire_room()) {
            if (!(h = wire_next(&payload))) {
                waiting = false;
                break;
            }
            dispatch(h, payload);
        }
        calls_serve(fds + 3, count - 3);
        if (fds[0].revents) reap(signals);
        files_pump();
        calls_report();
        conns_serve(fds + count, places);
        if (wire_flush() < 0) exit(0);
    }
}
