/* Files, as the sandbox user: no fork, no blocking open, regular files only.
 *
 * A large read or listing is a transfer that hands out one frame a turn of the loop, while there is room, so that it
 * never stalls a command. A write goes to a name of its own beside the target and takes its place in one step.
 */
#include "init.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PARENTS = 1, MUST_NOT_EXIST = 2, MUST_MATCH = 4, KEEP_MODE = 8, WHOLE = 1 };

struct transfer {
    enum { FREE, READING, LISTING, WRITING } kind;
    uint64_t id, offset, left;
    int fd, error;
    uint32_t mode, flags;
    uint8_t digest[32];
    char path[4096], temporary[4160];
};

static struct transfer transfers[MAX_TRANSFERS];

static void release(struct transfer *t) {
    if (t->kind == WRITING && t->temporary[0]) unlink(t->temporary);
    if (t->fd >= 0) close(t->fd);
    t->kind = FREE;
}

void files_reset(void) {
    for (int i = 0; i < MAX_TRANSFERS; i++)
        if (transfers[i].kind != FREE) release(&transfers[i]);
}

static struct transfer *take(uint64_t id) {
    for (int i = 0; i < MAX_TRANSFERS; i++) {
        struct transfer *t = &transfers[i];
        if (t->kind != FREE) continue;
        t->id = id;
        t->fd = -1;
        t->error = 0;
        t->temporary[0] = 0;
        return t;
    }
    return NULL;
}

/* The rest of the payload is a path: one string, not empty, not too long. */
static const char *path_in(const struct header *h, const uint8_t *payload, size_t from, size_t *end) {
    const uint8_t *zero = h->length > from ? memchr(payload + from, 0, h->length - from) : NULL;
    if (!zero || zero == payload + from || (size_t)(zero - payload) - from >= sizeof transfers->path) return NULL;
    if (end) *end = (size_t)(zero - payload) + 1;
    return (const char *)payload + from;
}

static int open_regular(const char *path, struct stat *st) {
    if (stat(path, st) < 0) return -errno;      /* looked at first: opening a device may do something */
    if (S_ISDIR(st->st_mode)) return -EISDIR;
    if (!S_ISREG(st->st_mode)) return -NOT_REGULAR;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return -errno;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode)) return fd;
    close(fd);
    return -NOT_REGULAR;
}

static void begin_read(const struct header *h, const uint8_t *payload) {
    struct stat st;
    const char *path = path_in(h, payload, 16, NULL);
    if (!path) return wire_fail(h->id, ENAMETOOLONG);
    struct transfer *t = take(h->id);
    if (!t) return wire_fail(h->id, EBUSY);
    int fd = open_regular(path, &st);
    if (fd < 0) return wire_fail(h->id, -fd);
    t->fd = fd;
    t->offset = get64(payload);
    t->left = get64(payload + 8);
    uint64_t there = (uint64_t)st.st_size > t->offset ? (uint64_t)st.st_size - t->offset : 0;
    if (h->flag & WHOLE && there > t->left) {
        close(fd);
        return wire_fail(h->id, EFBIG);
    }
    t->kind = READING;
}

static void pump_read(struct transfer *t) {
    size_t want = t->left < FRAME_MAX ? (size_t)t->left : FRAME_MAX;
    ssize_t n = want ? pread(t->fd, wire_payload(), want, (off_t)t->offset) : 0;
    if (n < 0) {
        wire_fail(t->id, errno);
        return release(t);
    }
    t->offset += (uint64_t)n;
    t->left -= (uint64_t)n;
    bool end = n < (ssize_t)want || !t->left;
    wire_send(DATA, end ? FLAG_END : 0, t->id, (size_t)n);
    if (end) release(t);
}

struct facts {   /* of one path, before its name and a symlink's target */
    uint64_t size;
    int64_t mtime_ns;
    uint32_t mode;
    uint16_t name, target;
};

/* Bytes written, 0 if it does not fit or is gone. */
static size_t describe(int directory, const char *name, uint8_t *to, size_t room) {
    struct stat st;
    struct facts f = {0};
    size_t length = strlen(name);
    if (room < sizeof f + length + 4096 || fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    f.size = (uint64_t)st.st_size;
    f.mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    f.mode = st.st_mode;
    f.name = (uint16_t)length;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(directory, name, (char *)to + sizeof f + length, 4096);
        f.target = n > 0 ? (uint16_t)n : 0;
    }
    memcpy(to, &f, sizeof f);
    memcpy(to + sizeof f, name, length);
    return sizeof f + length + f.target;
}

static void answer_stat(const struct header *h, const uint8_t *payload) {
    const char *path = path_in(h, payload, 0, NULL);
    if (!path) return wire_fail(h->id, ENAMETOOLONG);
    size_t n = describe(AT_FDCWD, path, wire_payload(), FRAME_MAX);
    if (!n) return wire_fail(h->id, errno ? errno : ENOENT);
    wire_send(OK, FLAG_END, h->id, n);
}

static void begin_list(const struct header *h, const uint8_t *payload) {
    const char *path = path_in(h, payload, 0, NULL);
    if (!path) return wire_fail(h->id, ENAMETOOLONG);
    struct transfer *t = take(h->id);
    if (!t) return wire_fail(h->id, EBUSY);
    t->fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    if (t->fd < 0) return wire_fail(h->id, errno);
    t->kind = LISTING;
}

struct entry { uint64_t inode; int64_t offset; unsigned short length; unsigned char type; char name[]; };

static void pump_list(struct transfer *t) {
    static char names[2048] __attribute__((aligned(8)));   /* small, so that all it can hold fits into one frame */
    size_t length = 0;
    long n = syscall(SYS_getdents64, t->fd, names, sizeof names);
    for (long at = 0; at < n;) {
        struct entry *e = (struct entry *)(names + at);
        at += e->length;
        if (strcmp(e->name, ".") && strcmp(e->name, ".."))
            length += describe(t->fd, e->name, wire_payload() + length, FRAME_MAX - length);
        if (FRAME_MAX - length < 8192) {   /* long symlinks: the rest of these names in a frame of its own */
            wire_send(DATA, 0, t->id, length);
            length = 0;
            if (!wire_room()) { wire_flush(); if (!wire_room()) { n = -1; errno = EBUSY; break; } }
        }
    }
    if (n < 0) {
        wire_fail(t->id, errno);
        return release(t);
    }
    wire_send(DATA, n == 0 ? FLAG_END : 0, t->id, length);
    if (n == 0) release(t);
}

static void make_parents(const char *path) {
    char part[sizeof transfers->path];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        memcpy(part, path, (size_t)(slash - path));
        part[slash - path] = 0;
        mkdir(part, 0755);
    }
}

/* What stands at the target now, and whether it may be replaced. 0 or an errno. */
static int look_at_target(struct transfer *t) {
    struct stat st;
    if (lstat(t->path, &st) < 0) {
        if (errno != ENOENT) return errno;
        return t->flags & MUST_MATCH ? EEXIST : 0;
    }
    if (S_ISLNK(st.st_mode)) return ELOOP;
    if (S_ISDIR(st.st_mode)) return EISDIR;
    if (!S_ISREG(st.st_mode)) return NOT_REGULAR;
    if (t->flags & MUST_NOT_EXIST) return EEXIST;
    if (faccessat(AT_FDCWD, t->path, W_OK, AT_EACCESS) < 0) return errno;   /* a rename would not ask */
    if (t->flags & KEEP_MODE) t->mode = st.st_mode & 0777;
    return 0;
}

static int compare(const struct transfer *t) {
    static uint8_t chunk[65536];
    uint8_t digest[32];
    struct sha256 s;
    struct stat st;
    int fd = open_regular(t->path, &st);
    if (fd < 0) return fd == -ENOENT ? EEXIST : -fd;
    sha256_init(&s);
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0) sha256_update(&s, chunk, (size_t)n);
    int error = n < 0 ? errno : 0;
    close(fd);
    sha256_final(&s, digest);
    return error ? error : memcmp(digest, t->digest, sizeof digest) ? EEXIST : 0;
}

static void put(struct transfer *t, const uint8_t *data, size_t length) {
    while (length && !t->error) {
        ssize_t n = write(t->fd, data, length);
        if (n < 0) t->error = errno;
        else data += n, length -= (size_t)n;
    }
}

static void end_write(struct transfer *t) {
    if (!t->error && fchmod(t->fd, t->mode) < 0) t->error = errno;
    if (!t->error) t->error = look_at_target(t);
    if (!t->error && t->flags & MUST_MATCH) t->error = compare(t);
    if (!t->error && t->flags & MUST_NOT_EXIST) {
        if (syscall(SYS_renameat2, AT_FDCWD, t->temporary, AT_FDCWD, t->path, 1 /* NOREPLACE */) < 0) t->error = errno;
    } else if (!t->error && rename(t->temporary, t->path) < 0) {
        t->error = errno;
    }
    if (t->error) wire_fail(t->id, t->error);
    else {
        t->temporary[0] = 0;
        wire_reply(OK, t->id, NULL, 0);
    }
    release(t);
}

static void begin_write(const struct header *h, const uint8_t *payload) {
    static uint64_t counter;
    size_t after;
    const char *path = path_in(h, payload, 40, &after);
    if (!path) return wire_fail(h->id, ENAMETOOLONG);
    struct transfer *t = take(h->id);
    if (!t) return wire_fail(h->id, EBUSY);
    t->mode = get32(payload) & 0777;
    t->flags = get32(payload + 4);
    memcpy(t->digest, payload + 8, sizeof t->digest);
    snprintf(t->path, sizeof t->path, "%s", path);
    t->error = look_at_target(t);
    if (!t->error && t->flags & PARENTS) make_parents(t->path);
    const char *slash = strrchr(t->path, '/');
    size_t folder = slash ? (size_t)(slash - t->path) + 1 : 0;
    memcpy(t->temporary, t->path, folder);
    snprintf(t->temporary + folder, sizeof t->temporary - folder, ".usermode-%016llx-%llu", (unsigned long long)h->id,
             (unsigned long long)counter++);
    if (!t->error) t->fd = open(t->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (!t->error && t->fd < 0) t->error = errno;
    if (t->error) {
        t->temporary[0] = 0;
        t->fd = -1;
    }
    t->kind = WRITING;
    put(t, payload + after, h->length - after);
    if (h->flag & FLAG_END) end_write(t);
}

static void more_to_write(const struct header *h, const uint8_t *payload) {
    for (int i = 0; i < MAX_TRANSFERS; i++) {
        struct transfer *t = &transfers[i];
        if (t->kind != WRITING || t->id != h->id) continue;
        put(t, payload, h->length);
        if (h->flag & FLAG_END) end_write(t);
        return;
    }
}

void file_request(const struct header *h, const uint8_t *payload) {
    switch (h->type) {
    case READ: begin_read(h, payload); break;
    case WRITE: begin_write(h, payload); break;
    case WRITE_DATA: more_to_write(h, payload); break;
    case STAT: answer_stat(h, payload); break;
    case LIST: begin_list(h, payload); break;
    }
}

bool files_pending(void) {
    for (int i = 0; i < MAX_TRANSFERS; i++)
        if (transfers[i].kind == READING || transfers[i].kind == LISTING) return true;
    return false;
}

void files_pump(void) {
    for (int i = 0; i < MAX_TRANSFERS && wire_room(); i++) {
        if (transfers[i].kind == READING) pump_read(&transfers[i]);
        else if (transfers[i].kind == LISTING) pump_list(&transfers[i]);
    }
}
