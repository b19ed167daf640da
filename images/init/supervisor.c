/* Supervisors: what stands between init and each command.
 *
 * A supervisor is a child subreaper that does nothing but start one command, wait for all of its descent, and say what
 * came of it as waitpid gave it. It holds its socket and nothing else. When its descent is empty it is used again: a
 * fork of init costs as much as the command that it would be for.
 */
#include "spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_IDLE = 8 };

/* Shared with the supervisor: too long for a message. Pages that were never written cost nothing. */
struct desk {
    volatile pid_t main;
    uint32_t length;
    uint8_t request[REQUEST_MAX];
};

static struct supervisor { pid_t pid; int socket; bool busy; } supervisors[MAX_CALLS];
static struct desk *desks;
static char own_score[16];

/* What is forked between two of these is offered to the out-of-memory killer before PID 1 is. Opened at the first, while
 * this process is still its own to write. */
static void oom_score(const char *score) {
    static int fd = -2;
    if (fd == -2) fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (fd >= 0 && pwrite(fd, score, strlen(score), 0) < 0) {}
}

void supervisors_init(void) {
    desks = mmap(NULL, MAX_CALLS * sizeof *desks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (desks == MAP_FAILED) exit(5);
    oom_score("0");   /* as low as it may: the guest can bring its own score down to there, too */
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, own_score, sizeof own_score - 1);
    if (fd >= 0) close(fd);
    own_score[n > 0 ? n : 0] = 0;
}

static uint64_t microseconds(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

static void tell(int socket, int kind, int status, const struct rusage *use) {
    struct farewell word = {.kind = kind, .status = status};
    if (use) {
        word.usage.user_us = microseconds(use->ru_utime);
        word.usage.system_us = microseconds(use->ru_stime);
        word.usage.rss_kb = (uint64_t)use->ru_maxrss;
    }
    if (write(socket, &word, sizeof word) != sizeof word) _exit(1);
}

static bool nobody_left(void) {
    siginfo_t left;
    return waitid(P_ALL, 0, &left, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

static void wait_for_all(pid_t main, int socket) {
    struct rusage use;
    int status;
    for (;;) {
        pid_t pid = wait4(-1, &status, 0, &use);
        if (pid == main) {
            bool alone = nobody_left();
            tell(socket, alone ? ENDED_ALONE : ENDED, status, &use);
            if (alone) return;
        } else if (pid < 0 && errno == ECHILD) {
            return tell(socket, EMPTY, 0, NULL);
        }
    }
}

/* False when init has let go of this supervisor. */
static bool receive(int socket, int fds[SPAWN_FDS]) {
    char byte, space[CMSG_SPACE(SPAWN_FDS * sizeof(int))];
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    ssize_t n;
    while ((n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {}
    struct cmsghdr *control = n == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!control || control->cmsg_len != CMSG_LEN(SPAWN_FDS * sizeof(int))) return false;
    memcpy(fds, CMSG_DATA(control), SPAWN_FDS * sizeof(int));
    return true;
}

/* The command's pid, or minus errno. It borrows this memory until it has become another program. */
static __attribute__((noinline)) pid_t begin(const struct spawn_request *ask, const int fds[SPAWN_FDS]) {
    pid_t main = vfork();
    if (main == 0) become_command(ask, fds);
    return main < 0 ? -errno : main;
}

static _Noreturn void supervise(struct desk *desk, int socket) {
    static struct spawn_request ask;
    int fds[SPAWN_FDS];
    while (receive(socket, fds)) {
        pid_t main = spawn_parse(desk->request, desk->length, &ask) ? begin(&ask, fds) : -EINVAL;
        desk->main = main;
        for (int i = 0; i < SPAWN_FDS; i++) close(fds[i]);
        if (main < 0) tell(socket, NEVER_BEGAN, -main, NULL);
        else wait_for_all(main, socket);
    }
    _exit(0);
}

static int start(struct supervisor *s) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return errno;
    oom_score("900");
    pid_t pid = fork();
    int error = errno;
    if (pid == 0) {
        uid_t uid = geteuid();
        if (setresuid(uid, uid, uid)) _exit(1);   /* nothing of what PID 1 may have kept */
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        setsid();   /* away from the group of whatever signals its own */
        for (int fd = 0; fd < 3; fd++) dup2(pair[1], fd);   /* all three, so that what it is handed comes above them */
        close_from(3);
        supervise(&desks[s - supervisors], 0);
    }
    oom_score(own_score);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return error;
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *s = (struct supervisor){.pid = pid, .socket = pair[0]};
    return 0;
}

/* The first command need not wait for a fork. Where there can be none now, it is tried again when it is needed. */
void supervisor_ready(void) { start(&supervisors[0]); }

static int hand_over(struct supervisor *s, const uint8_t *request, size_t length, const int fds[SPAWN_FDS]) {
    struct desk *desk = &desks[s - supervisors];
    char byte = 0, space[CMSG_SPACE(SPAWN_FDS * sizeof(int))] = {0};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(SPAWN_FDS * sizeof(int));
    memcpy(CMSG_DATA(control), fds, SPAWN_FDS * sizeof(int));
    desk->main = 0;
    desk->length = (uint32_t)length;
    memcpy(desk->request, request, length);
    kill(s->pid, SIGCONT);   /* the guest may have stopped it */
    return sendmsg(s->socket, &message, MSG_NOSIGNAL) == 1 ? 0 : errno;
}

/* The one that has the command now, or minus errno. An idle one that the guest has killed is passed over. */
int supervisor_begin(const uint8_t *request, size_t length, const int fds[SPAWN_FDS]) {
    for (int i = 0; i < MAX_CALLS; i++) {
        struct supervisor *s = &supervisors[i];
        if (s->busy || (s->pid && hand_over(s, request, length, fds))) continue;
        if (!s->pid) {
            int error = start(s);
            if (!error) error = hand_over(s, request, length, fds);
            if (error) return -error;
        }
        s->busy = true;
        return i;
    }
    return -EAGAIN;
}

void supervisor_end(int which) {
    struct supervisor *s = &supervisors[which];
    int idle = 0;
    s->busy = false;
    for (int i = 0; i < MAX_CALLS; i++) idle += supervisors[i].pid && !supervisors[i].busy;
    if (desks[which].length > FRAME_MAX) madvise(&desks[which], sizeof *desks, MADV_REMOVE);
    if (idle <= MAX_IDLE || s->socket < 0) return;
    close(s->socket);   /* it hears that, and ends */
    s->socket = -1;
    s->busy = true;     /* until it has */
}

int supervisor_reaped(pid_t pid) {
    for (int i = 0; i < MAX_CALLS; i++) {
        if (supervisors[i].pid != pid) continue;
        if (supervisors[i].socket >= 0) close(supervisors[i].socket);
        supervisors[i] = (struct supervisor){.socket = -1};
        return i;
    }
    return -1;
}

pid_t supervisor_pid(int which) { return which < 0 ? 0 : supervisors[which].pid; }
int supervisor_socket(int which) { return supervisors[which].socket; }
pid_t supervisor_main(int which) { return desks[which].main; }

int supervisor_pids(pid_t pids[MAX_CALLS]) {
    int count = 0;
    for (int i = 0; i < MAX_CALLS; i++)
        if (supervisors[i].pid) pids[count++] = supervisors[i].pid;
    return count;
}
