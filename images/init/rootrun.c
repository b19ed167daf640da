/* Privilege: how PID 1 lets go of it, and how a root command gets what the policy lists of it.
 *
 * Where a policy gives root commands capabilities, the engine starts PID 1 as root, and the first thing it does is to
 * become the sandbox user for good (`init as UID GID MASK`). A root command that the user has approved is started by the
 * engine beside PID 1, by `init root`. Two processes come of that: the command, as uid 0 with exactly the capabilities of
 * the policy; and its keeper, who has another uid and the right to signal, so that the command can neither end nor
 * trace whoever has to end it. (With no capability listed there is none to keep either: then both are uid 0.) The request
 * comes on standard input, whose end means "cancel"; all that the command writes goes out in records of the keeper's, so
 * that it cannot forge its own outcome. Nothing of its descent is left.
 */
#include "spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KEEPER = 65533 };   /* the uid and gid that this process goes on with; nothing else in a container has them */
enum { KILL_EVERY_MS = 20, KILL_FOR_MS = 10000, LAST_WORDS_MS = 5000 };
enum { RECORD_OUT = 1, RECORD_ERR, RECORD_END };
enum { END_TIMED_OUT = 1, END_CANCELLED = 2, END_OOM = 4, END_NEVER_BEGAN = 8, END_NOT_ENDED = 16 };

static const char GREETING[16] = "usermode-root-1\n";

struct asked { uint32_t length, filter; uint64_t capabilities; uint8_t key[16]; };   /* then a filter, and a spawn's bytes */

struct record { uint32_t kind, length; uint64_t tag; };   /* then that many bytes */

struct end {
    int32_t status, error;   /* as waitpid gave it; why it never began, an errno */
    uint32_t flags, zero;
    uint64_t duration_us, user_us, system_us, rss_kb;
};

static uint8_t request[REQUEST_MAX];
static struct spawn_request ask;
static struct sock_filter filter[BPF_MAXINSNS];   /* where the engine gives a program beside PID 1 none */
static struct sock_fprog program = {.filter = filter};
static uint8_t key[16];
static uint64_t records;
static struct { size_t length, at; uint8_t bytes[sizeof(struct record) + 65536]; } out;

static bool take(void *to, size_t size) {
    for (uint8_t *at = to; size;) {
        ssize_t n = read(0, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static int set_capabilities(uint64_t mask) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2], seen[2];
    for (int i = 0; i < 2; i++) {
        uint32_t half = (uint32_t)(mask >> 32 * i);
        sets[i] = (struct __user_cap_data_struct){.effective = half, .permitted = half, .inheritable = 0};
    }
    if (syscall(SYS_capset, &head, sets) || syscall(SYS_capget, &head, seen)) return errno;
    return memcmp(sets, seen, sizeof seen) ? EPERM : 0;
}

/* Takes SETPCAP, so it comes before the other sets are given away. */
static int bound(uint64_t mask) {
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned long cap = 0; cap < 64; cap++) {
        bool wanted = mask >> cap & 1;
        int present = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (present < 0) return wanted ? EINVAL : 0;   /* past the last that this kernel knows */
        if (!wanted && present && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0)) return errno;
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != (int)wanted) return EPERM;
    }
    return 0;
}

/* "as UID GID MASK [apart]": no privilege, and MASK the most that any descendant could ever have. Before anything of the
 * guest. `apart` is for gVisor, where PID 1 has no protection from signals of its own user: root in name stays its real
 * and saved uid, and only its descendants are the user altogether. */
void become_user(char **words) {
    for (int i = 0; i < 4; i++)
        if (!words[i]) exit(6);
    uid_t uid = (uid_t)strtoul(words[1], NULL, 10);
    gid_t gid = (gid_t)strtoul(words[2], NULL, 10);
    uid_t kept = words[4] && !strcmp(words[4], "apart") ? 0 : uid;
    if (!uid || !gid || bound(strtoull(words[3], NULL, 16)) || setgroups(1, &gid) || setresgid(gid, gid, gid) ||
        setresuid(kept, uid, kept) || set_capabilities(0))
        exit(6);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);   /* as a program started by this user is; main lets go of that too */
}

/* Whoever signals the command must not be the command's to signal. */
static int become_keeper(uint64_t capabilities) {
    if (!capabilities) return set_capabilities(0);
    int error = bound(0);
    if (error) return error;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(KEEPER, KEEPER, KEEPER) ||
        setresuid(KEEPER, KEEPER, KEEPER))
        return errno;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);   /* changing the uid may have changed it */
    return set_capabilities(1ull << CAP_KILL);
}

/* Of root alone. Changing them takes a privilege that there may be none of. */
static bool groups_of_root(void) {
    gid_t root = 0, groups[2];
    int count = getgroups(2, groups);
    return count == 0 || (count == 1 && !groups[0]) || !setgroups(1, &root);
}

/* The child: root with nothing but what the policy lists, then the command. Says why not on `told`. */
static _Noreturn void become_root_command(uint64_t capabilities, int go, int told, const int streams[3]) {
    char byte;
    int directory = -1;
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0 && write(score, "900", 3) < 0) {}   /* offered to the out-of-memory killer first */
    int error = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EPERM;
    if (!error && (!groups_of_root() || setresgid(0, 0, 0) || setresuid(0, 0, 0))) error = errno;
    if (!error) error = bound(capabilities);
    if (!error) error = set_capabilities(capabilities);
    if (!error && program.len && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0)) error = EPERM;
    if (!error) {
        directory = open(ask.cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        error = directory < 0 || faccessat(directory, ".", X_OK, 0) ? errno : 0;
    }
    /* Not before the other one has weakened itself and stands ready. */
    if (!error && read(go, &byte, 1) == 1) become_command(&ask, (int[SPAWN_FDS]){directory, streams[0], streams[1], streams[2]});
    if (write(told, &error, sizeof error) < 0) {}
    _exit(126);
}

/* The tag says that the record is the keeper's, and which one: a runtime may let root open this process's descriptors. */
static void record(uint32_t kind, size_t length) {
    struct record head = {.kind = kind, .length = (uint32_t)length};
    uint8_t digest[32];
    struct sha256 s;
    sha256_init(&s);
    sha256_update(&s, key, sizeof key);
    sha256_update(&s, (const uint8_t *)&records, sizeof records);
    sha256_update(&s, (const uint8_t *)&head, offsetof(struct record, tag));
    sha256_final(&s, digest);
    memcpy(&head.tag, digest, sizeof head.tag);
    records++;
    memcpy(out.bytes, &head, sizeof head);
    out.length = sizeof head + length;
    out.at = 0;
}

static void flush(void) {
    ssize_t n = write(1, out.bytes + out.at, out.length - out.at);
    if (n < 0 && errno != EAGAIN && errno != EINTR) out.at = out.length;   /* nobody is there any more */
    else if (n > 0) out.at += (size_t)n;
}

static bool waiting(void) { return out.at < out.length; }

static void flush_for(int64_t ms) {
    for (int64_t until = now_ms() + ms; waiting() && now_ms() < until; flush()) {
        struct pollfd one = {.fd = 1, .events = POLLOUT};
        poll(&one, 1, 100);
    }
}

/* At most one record waits to be taken, so a flood waits in the command's own pipes. */
static void pass(int *fd, uint32_t kind, size_t most) {
    if (most > 65536) most = 65536;
    ssize_t n = read(*fd, out.bytes + sizeof(struct record), most);
    if (n > 0) return record(kind, (size_t)n);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    close(*fd);
    *fd = -1;
}

/* What lay in the pipes when the last of the command had gone; whoever else was handed an end is not heard. */
static void pass_rest(int *fd, uint32_t kind) {
    int rest = 0;
    flush_for(LAST_WORDS_MS);
    if (*fd < 0 || ioctl(*fd, FIONREAD, &rest) < 0) return;
    while (rest > 0 && *fd >= 0) {
        out.length = out.at = 0;
        pass(fd, kind, (size_t)rest);
        if (!waiting()) return;
        rest -= (int)(out.length - sizeof(struct record));
        flush_for(LAST_WORDS_MS);
    }
}

static _Noreturn void say_end(const struct end *end) {
    flush_for(LAST_WORDS_MS);
    memcpy(out.bytes + sizeof(struct record), end, sizeof *end);
    record(RECORD_END, sizeof *end);
    flush_for(LAST_WORDS_MS);
    _exit(0);
}

static _Noreturn void never_began(int error) { say_end(&(struct end){.error = error, .flags = END_NEVER_BEGAN}); }

static uint64_t microseconds(struct timeval t) { return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec; }

/* True when nothing of the descent is left. */
static bool reap(pid_t main, bool *main_ended, struct end *end) {
    struct rusage use;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &use)) > 0) {
        if (pid != main) continue;
        *main_ended = true;
        end->status = status;
        end->user_us = microseconds(use.ru_utime);
        end->system_us = microseconds(use.ru_stime);
        end->rss_kb = (uint64_t)use.ru_maxrss;
    }
    return pid < 0 && errno == ECHILD;
}

/* Carry what it writes and wait; past its time, or when the host lets go, or once its main process is gone, end all. */
static void watch(pid_t main, int in, int fds[2], int signals, struct end *end) {
    int64_t deadline = ask.timeout_ms ? now_ms() + ask.timeout_ms : INT64_MAX, kill_at = INT64_MAX, give_up = INT64_MAX;
    size_t given = 0;
    bool main_ended = false, host = true;
    for (;;) {
        struct signalfd_siginfo told;
        while (read(signals, &told, sizeof told) == sizeof told) {}
        if (reap(main, &main_ended, end)) return;
        int64_t now = now_ms();
        if (kill_at == INT64_MAX && !main_ended && (now >= deadline || !host)) {
            end->flags |= host ? END_TIMED_OUT : END_CANCELLED;
            kill_at = now + ask.grace_ms;
            proc_end(getpid(), SIGTERM);
        }
        if (main_ended && kill_at > now) kill_at = now;
        if (now >= kill_at) {
            if (give_up == INT64_MAX) give_up = now + KILL_FOR_MS;
            proc_end(getpid(), SIGKILL);
            kill_at = now + KILL_EVERY_MS;
            if (now > give_up) {
                end->flags |= END_NOT_ENDED;
                return;
            }
        }
        int64_t next = kill_at < deadline || end->flags ? kill_at : deadline;
        int wait = next == INT64_MAX ? -1 : next - now > 60000 ? 60000 : next > now ? (int)(next - now) : 0;
        struct pollfd p[] = {
            {.fd = signals, .events = POLLIN},
            {.fd = host ? 0 : -1, .events = POLLIN},
            {.fd = waiting() ? -1 : fds[0], .events = POLLIN},
            {.fd = waiting() ? -1 : fds[1], .events = POLLIN},
            {.fd = waiting() ? 1 : -1, .events = POLLOUT},
            {.fd = in, .events = POLLOUT},
        };
        if (poll(p, 6, wait) < 0) continue;
        if (p[1].revents) {
            uint8_t more;   /* nothing follows a request but its end */
            if (read(0, &more, 1) >= 0 || (errno != EAGAIN && errno != EINTR)) host = false;
        }
        if (p[2].revents) pass(&fds[0], RECORD_OUT, SIZE_MAX);
        if (p[3].revents && !waiting()) pass(&fds[1], RECORD_ERR, SIZE_MAX);
        if (waiting()) flush();
        if (p[5].revents) {
            ssize_t n = write(in, ask.input + given, ask.input_length - given);
            if (n > 0) given += (size_t)n;
            if (given == ask.input_length || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                close(in);
                in = -1;
            }
        }
    }
}

static void nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

int root_run(void) {
    struct asked asked;
    struct end end = {0};
    int in[2], outs[2], errs[2], go[2], told[2], error = 0;
    sigset_t set;
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    close_from(3);
    umask(022);
    signal(SIGPIPE, SIG_IGN);
    if (write(1, GREETING, sizeof GREETING) != sizeof GREETING) return 1;
    if (!take(&asked, sizeof asked) || asked.length > sizeof request || asked.filter > BPF_MAXINSNS ||
        !take(filter, asked.filter * sizeof *filter) || !take(request, asked.length)) return 1;
    memcpy(key, asked.key, sizeof key);
    program.len = (unsigned short)asked.filter;
    if (!spawn_parse(request, asked.length, &ask)) never_began(EINVAL);
    calls_init();   /* the counter of what was killed for memory */
    proc_init();
    long before = ooms();
    uint64_t began = now_us();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) never_began(errno);
    setsid();
    if (pipe2(in, O_CLOEXEC) || pipe2(outs, O_CLOEXEC) || pipe2(errs, O_CLOEXEC) || pipe2(go, O_CLOEXEC) || pipe2(told, O_CLOEXEC))
        never_began(errno);
    pid_t main = fork();
    if (main < 0) never_began(errno);
    if (main == 0) become_root_command(asked.capabilities, go[0], told[1], (int[3]){in[0], outs[1], errs[1]});
    close(in[0]);
    close(outs[1]);
    close(errs[1]);
    close(go[0]);
    close(told[1]);
    if ((error = become_keeper(asked.capabilities))) _exit(1);   /* the child hears that nobody says "go" */
    if (write(go[1], "", 1) != 1) {}
    close(go[1]);
    if (read(told[0], &error, sizeof error) == sizeof error) never_began(error ? error : EIO);
    close(told[0]);
    if (!ask.input_length) {
        close(in[1]);
        in[1] = -1;
    }
    for (int i = 0; i < 2; i++) nonblocking(i);
    nonblocking(outs[0]);
    nonblocking(errs[0]);
    if (in[1] >= 0) nonblocking(in[1]);
    int streams[2] = {outs[0], errs[0]};
    watch(main, in[1], streams, signals, &end);
    pass_rest(&streams[0], RECORD_OUT);
    pass_rest(&streams[1], RECORD_ERR);
    end.duration_us = now_us() - began;
    if (ooms() != before) end.flags |= END_OOM;
    say_end(&end);
}
