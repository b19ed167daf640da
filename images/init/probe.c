/* The probe: what `init probe` sees and may do in a container, asked by the host before anything else runs there.
 *
 * An ordinary command, run as the sandbox's own user; it is here because an image may hold no program at all.
 * Standard input holds questions, a line each: a letter and what it is about. Each is answered, in order, by a line
 * "ERRNO LENGTH" and LENGTH bytes. What an answer means is for the host to say.
 *
 *   r PATH           its content, to 256 KiB
 *   l PATH           its entries, a line each: name, mode, device major and minor
 *   s PATH           mode, device major and minor, links not followed; then the file system's flags, size, inodes
 *   k PATH           where the link points
 *   w PATH           opens it for writing and closes it again
 *   c PATH           makes a file there and removes it again
 *   t NUMBER A0..A5  the system call, in a process of its own; ERRNO is 1000 + N where signal N ended it
 */
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum { QUESTIONS_MAX = 128 * 1024, LINES_MAX = 2048, ANSWER_MAX = 256 * 1024, ATTEMPT_S = 5, ENDED_BY = 1000 };

static char questions[QUESTIONS_MAX + 1], answer[ANSWER_MAX];
static char *lines[LINES_MAX];

/* Shared with the processes that try system calls, since an attempt may be the last thing one does. */
struct attempts { volatile int at, outcomes[LINES_MAX]; };

static void put(const char *bytes, size_t length) {
    while (length) {
        ssize_t n = write(1, bytes, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(1);
        bytes += n;
        length -= (size_t)n;
    }
}

static void reply(int error, size_t length) {
    char head[48];
    int n = snprintf(head, sizeof head, "%d %zu\n", error, length);
    put(head, (size_t)n);
    put(answer, length);
    put("\n", 1);
}

static int read_all(const char *path, size_t *length) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), error = 0;
    if (fd < 0) return errno;
    for (ssize_t n = 1; n && *length < sizeof answer; *length += (size_t)n) {
        n = read(fd, answer + *length, sizeof answer - *length);
        if (n < 0) {
            error = errno;
            break;
        }
    }
    close(fd);
    return error;
}

static int list(const char *path, size_t *length) {
    DIR *directory = opendir(path);
    struct dirent *entry;
    if (!directory) return errno;
    while ((entry = readdir(directory))) {
        struct stat s = {0};
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(dirfd(directory), entry->d_name, &s, AT_SYMLINK_NOFOLLOW)) continue;
        int n = snprintf(answer + *length, sizeof answer - *length, "%s %o %u %u\n", entry->d_name, s.st_mode,
                         major(s.st_rdev), minor(s.st_rdev));
        if (n < 0 || (size_t)n >= sizeof answer - *length) break;
        *length += (size_t)n;
    }
    closedir(directory);
    return 0;
}

static int look(const char *path, size_t *length) {
    struct stat s;
    struct statvfs v;
    if (lstat(path, &s) || statvfs(path, &v)) return errno;
    *length = (size_t)snprintf(answer, sizeof answer, "%o %u %u %lu %llu %llu", s.st_mode, major(s.st_rdev),
                               minor(s.st_rdev), v.f_flag, (unsigned long long)v.f_blocks * v.f_frsize,
                               (unsigned long long)v.f_files);
    return 0;
}

static int follow(const char *path, size_t *length) {
    ssize_t n = readlink(path, answer, sizeof answer);
    if (n < 0) return errno;
    *length = (size_t)n;
    return 0;
}

static int open_and_close(const char *path, int flags) {
    int fd = open(path, flags | O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    close(fd);
    return flags & O_CREAT && unlink(path) ? errno : 0;
}

static int attempt(const char *words) {
    unsigned long number, a[6] = {0};
    char *rest;
    pid_t self = (pid_t)syscall(SYS_getpid);
    number = strtoul(words, &rest, 0);
    for (int i = 0; i < 6; i++) a[i] = strtoul(rest, &rest, 0);
    long result = syscall((long)number, a[0], a[1], a[2], a[3], a[4], a[5]);
    int error = result < 0 ? errno : 0;
    if ((pid_t)syscall(SYS_getpid) != self) _exit(0);   /* it was a fork that should have been refused */
    return error;
}

/* All attempts from `first` on that stand together; a process that does not survive one is replaced by the next. */
static int try_from(struct attempts *shared, int first, int count) {
    int end = first;
    while (end < count && lines[end][0] == 't') shared->outcomes[end++] = -1;
    for (shared->at = first; shared->at < end; shared->at = shared->at + 1) {
        int status = 0;
        pid_t child = fork();
        if (child < 0) shared->outcomes[shared->at] = errno;
        if (child == 0) {
            alarm(ATTEMPT_S);
            for (; shared->at < end; shared->at = shared->at + 1) shared->outcomes[shared->at] = attempt(lines[shared->at] + 1);
            _exit(0);
        }
        if (child > 0) waitpid(child, &status, 0);
        if (shared->at < end && WIFSIGNALED(status)) shared->outcomes[shared->at] = ENDED_BY + WTERMSIG(status);
    }
    for (int i = first; i < end; i++) reply(shared->outcomes[i], 0);
    return end;
}

static int split(size_t length) {
    int count = 0;
    questions[length] = 0;
    for (char *at = questions; *at && count < LINES_MAX;) {
        char *end = strchrnul(at, '\n');
        bool last = !*end;
        *end = 0;
        if (*at) lines[count++] = at;
        if (last) break;
        at = end + 1;
    }
    return count;
}

int probe(void) {
    size_t length = 0;
    ssize_t n;
    struct attempts *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    while (length < QUESTIONS_MAX && (n = read(0, questions + length, QUESTIONS_MAX - length)) > 0) length += (size_t)n;
    int count = split(length);
    for (int i = 0; i < count;) {
        const char *path = lines[i][1] ? lines[i] + 2 : "";
        size_t size = 0;
        int error = EINVAL;
        switch (lines[i][0]) {
        case 't': i = try_from(shared, i, count); continue;
        case 'r': error = read_all(path, &size); break;
        case 'l': error = list(path, &size); break;
        case 's': error = look(path, &size); break;
        case 'k': error = follow(path, &size); break;
        case 'w': error = open_and_close(path, 0); break;
        case 'c': error = open_and_close(path, O_CREAT | O_EXCL); break;
        default: break;
        }
        reply(error, error ? 0 : size);
        i++;
    }
    return 0;
}
