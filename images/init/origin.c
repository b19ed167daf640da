/* Who inside opened a connection: the socket at its other end, the processes that hold that, the call they descend from.
 *
 * All of it is read from /proc at the moment of accepting, and none of it is waited for: how much is looked at is
 * bounded, and whatever cannot be told for certain is unknown. A process that hides its descriptors is unknown.
 */
#include "init.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Looked at for one connection: about 7000 sockets, and descriptors. */
enum { TABLE_BYTES = 1 << 20, PIECE = 512, LINKS = 8192 };

/* The inode in a table of sockets, of the one with these two addresses: 0 for one that nobody holds any more, -1 if there
 * is none. Read in small pieces: the kernel walks its whole table for a large one, and most are found half-way. */
static int64_t inode_in(const char *path, const char *addresses) {
    static char text[4096];
    size_t held = 0, length = strlen(addresses);
    int64_t inode = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    for (size_t all = 0; all < TABLE_BYTES && inode < 0 && held < sizeof text - PIECE;) {
        ssize_t n = read(fd, text + held, PIECE);
        if (n <= 0) break;
        all += (size_t)n;
        held += (size_t)n;
        char *end = memrchr(text, '\n', held);
        if (!end) continue;
        *end = 0;
        char *at = strstr(text, addresses);
        if (at) {
            unsigned long long number = 0;
            /* state, queues, timer, retransmits, uid, timeout, inode */
            inode = sscanf(at + length, "%*s %*s %*s %*s %*s %*s %llu", &number) == 1 ? (int64_t)number : 0;
        }
        held -= (size_t)(end + 1 - text);
        memmove(text, end + 1, held);
    }
    close(fd);
    return inode;
}

static int64_t inode_of(const struct sockaddr_in *peer, uint16_t port) {
    char four[64], six[128];
    unsigned here = htonl(INADDR_LOOPBACK), there = peer->sin_addr.s_addr, from = ntohs(peer->sin_port);
    snprintf(four, sizeof four, ": %08X:%04X %08X:%04X ", there, from, here, port);
    int64_t inode = inode_in("/proc/net/tcp", four);
    if (inode >= 0) return inode;
    const char *mapped = "0000000000000000FFFF0000";   /* a socket for both families */
    snprintf(six, sizeof six, ": %s%08X:%04X %s%08X:%04X ", mapped, there, from, mapped, here, port);
    return inode_in("/proc/net/tcp6", six);
}

static bool holds(pid_t pid, const char *socket, int *left) {
    static char buffer[8192] __attribute__((aligned(8)));
    char path[32], link[64];
    bool found = false;
    long n;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    while (!found && *left > 0 && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n && !found && *left > 0; (*left)--) {
            struct dirent64 *e = (struct dirent64 *)(buffer + at);
            at += e->d_reclen;
            ssize_t length = readlinkat(fd, e->d_name, link, sizeof link - 1);
            link[length > 0 ? length : 0] = 0;
            found = strcmp(link, socket) == 0;
        }
    }
    close(fd);
    return found;
}

static void read_words(pid_t pid, struct origin *o) {
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, o->program, sizeof o->program);
    if (fd >= 0) close(fd);
    o->length = n > 0 ? (size_t)n : 0;
    while (o->length && !o->program[o->length - 1]) o->length--;
    for (size_t i = 0; i < o->length; i++)
        if (!o->program[i]) o->program[i] = ' ';
}

/* Every process that holds it, among those there are now. False if not all could be looked at. */
static bool find_holders(const char *socket, struct origin *o) {
    static pid_t roots[MAX_CALLS];
    static uint64_t ids[MAX_CALLS];
    int left = LINKS, calls = calls_roots(roots, ids), count = proc_look();
    for (int i = 0; i < count && left > 0; i++) {
        pid_t pid = proc_pid(i);
        if (!holds(pid, socket, &left)) continue;
        int root = proc_root(i, roots, calls);
        uint64_t call = root < 0 ? 0 : ids[root];
        if (call && o->call && call != o->call) return false;   /* shared between calls */
        if (!o->pid || (call && !o->call)) o->pid = pid;
        if (call) o->call = call;
    }
    return left > 0;
}

void origin_find(const struct sockaddr_in *peer, uint16_t port, struct origin *o) {
    char socket[64];
    *o = (struct origin){0};
    int64_t inode = inode_of(peer, port);
    if (inode <= 0) return;
    snprintf(socket, sizeof socket, "socket:[%lld]", (long long)inode);
    for (int look = 0; look < 2 && !o->pid; look++) {   /* twice: it may have been handed to a child meanwhile */
        if (find_holders(socket, o)) continue;
        *o = (struct origin){0};
        return;
    }
    if (o->pid) read_words(o->pid, o);
}
