/* What a command writes.
 *
 * Kept: the first half of the buffer holds the head, the second half turns round and holds the tail, so that all of it
 * is exact while the total fits. What does not fit goes to a spill file until its limit; everything is counted.
 * Carried: a ring that is read only as far as the host's credit, so that a slow reader slows the writer and nobody else.
 */
#include "init.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static uint8_t scratch[256 * 1024] PAGES;

void streams_init(void) { keep_out_of_children(scratch, sizeof scratch); }

void stream_open(struct stream *s, int fd, size_t size, bool carried, uint64_t spill_limit, uint64_t id, int which) {
    *s = (struct stream){.fd = fd, .carried = carried, .size = carried ? STREAM_WINDOW : size, .spill_limit = spill_limit,
                         .spill = -1, .drain = -1};
    snprintf(s->path, sizeof s->path, "/tmp/.spill/%016llx.%s", (unsigned long long)id, which ? "err" : "out");
}

static bool mapped(struct stream *s) {
    if (s->buffer) return true;
    void *p = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return false;
    s->buffer = p;
    return true;
}

static size_t head(const struct stream *s) { return s->size - s->size / 2; }

/* Where byte number `position` is, or was before a later one took its place. */
static size_t place(const struct stream *s, uint64_t position) {
    if (s->carried) return position % s->size;
    if (position < s->size) return position;
    return head(s) + (position - head(s)) % (s->size - head(s));
}

static void put(struct stream *s, uint64_t position, const uint8_t *data, size_t length) {
    size_t ring = s->carried ? s->size : s->size - head(s);
    if (position >= s->size && length > ring) {   /* only the end of it would stay */
        position += length - ring;
        data += length - ring;
        length = ring;
    }
    while (length) {
        size_t at = place(s, position), room = s->size - at, take = room < length ? room : length;
        memcpy(s->buffer + at, data, take);
        position += take;
        data += take;
        length -= take;
    }
}

static void spill(struct stream *s, const uint8_t *data, size_t length) {
    if (s->spill < 0) return;
    if (length > s->spill_limit - s->spilled) length = (size_t)(s->spill_limit - s->spilled);
    while (length) {
        ssize_t n = write(s->spill, data, length);
        if (n <= 0) break;
        s->spilled += (uint64_t)n;
        data += n;
        length -= (size_t)n;
    }
    if (length || s->spilled == s->spill_limit) {  /* full, or refused: what is there stays readable */
        close(s->spill);
        s->spill = -1;
    }
}

static void keep(struct stream *s, const uint8_t *data, size_t length) {
    if (!mapped(s)) return;
    if (s->total <= s->size && s->total + length > s->size && !s->was_spilled && s->spill_limit) {
        s->spill = open(s->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        s->was_spilled = s->spill >= 0;
        spill(s, s->buffer, (size_t)s->total);
    }
    if (s->was_spilled) spill(s, data, length);
    size_t linear = s->total < s->size ? s->size - (size_t)s->total : 0;
    if (linear > length) linear = length;
    if (linear) put(s, s->total, data, linear);
    if (length > linear) put(s, s->total + linear, data + linear, length - linear);
}

static size_t window(const struct stream *s) {
    size_t want = sizeof scratch;
    if (s->carried && want > s->size - (s->total - s->credit)) want = s->size - (size_t)(s->total - s->credit);
    if (s->drain >= 0 && want > (uint64_t)s->drain) want = (size_t)s->drain;
    return want;
}

bool stream_wants(const struct stream *s) { return s->fd >= 0 && window(s) > 0; }

static void stop(struct stream *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
}

void stream_read(struct stream *s) {
    ssize_t n = read(s->fd, scratch, window(s));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (s->drain >= 0) s->drain = 0;
        return;
    }
    if (n <= 0) {  /* end of file; EIO is how a terminal says it */
        stop(s);
        return;
    }
    if (s->carried) {
        if (mapped(s)) put(s, s->total, scratch, (size_t)n);
    } else {
        keep(s, scratch, (size_t)n);
    }
    s->total += (uint64_t)n;
    if (s->drain >= 0) s->drain -= n;
    if (n >= 65536 && !s->grown) {   /* a writer in a hurry: fewer, larger turns */
        s->grown = true;
        fcntl(s->fd, F_SETPIPE_SZ, 1 << 20);
    }
}

/* A background child may hold the pipe for ever: take what is in it now and no more. */
void stream_main_ended(struct stream *s) {
    int waiting = 0;
    if (s->fd < 0) return;
    s->drain = ioctl(s->fd, FIONREAD, &waiting) == 0 ? waiting : 0;
}

bool stream_drained(const struct stream *s) {
    bool taken = s->fd < 0 || s->drain == 0;
    return taken && (!s->carried || s->sent == s->total);
}

size_t stream_kept(const struct stream *s) {
    if (s->carried || !s->buffer) return 0;
    return s->total < s->size ? (size_t)s->total : s->size;
}

/* Bytes of what was kept, in the order they were written. */
size_t stream_copy(const struct stream *s, size_t offset, size_t length, uint8_t *to) {
    size_t kept = stream_kept(s), copied = 0;
    if (offset >= kept) return 0;
    if (length > kept - offset) length = kept - offset;
    while (copied < length) {
        size_t logical = offset + copied, at, run;
        if (s->total <= s->size || logical < head(s)) {
            at = logical;
            run = (s->total <= s->size ? s->size : head(s)) - logical;
        } else {
            at = place(s, s->total - (kept - logical));
            run = s->size - at;
        }
        if (run > length - copied) run = length - copied;
        memcpy(to + copied, s->buffer + at, run);
        copied += run;
    }
    return copied;
}

size_t stream_last(const struct stream *s, size_t length, uint8_t *to) {
    if (!s->buffer) return 0;
    if (!s->carried) {
        size_t kept = stream_kept(s), tail = s->total <= s->size ? kept : s->size - head(s);
        if (length > tail) length = tail;
        return stream_copy(s, kept - length, length, to);
    }
    uint64_t there = s->total < s->size ? s->total : s->size;
    if (length > there) length = (size_t)there;
    for (size_t i = 0; i < length; i++) to[i] = s->buffer[place(s, s->total - length + i)];
    return length;
}

void stream_restart(struct stream *s) {
    s->drain = -1;
    if (!s->carried) return;
    if (s->buffer) munmap(s->buffer, s->size);  /* nobody gives credit any more: keep the last of it instead */
    s->buffer = NULL;
    s->carried = false;
    s->size = FRAME_MAX;
    s->total = s->sent = s->credit = 0;
}

void stream_carry(struct stream *s, uint64_t id, uint8_t which) {
    while (s->carried && s->sent < s->total && wire_room()) {
        size_t at = place(s, s->sent), run = s->size - at;
        if (run > s->total - s->sent) run = (size_t)(s->total - s->sent);
        if (run > FRAME_MAX - 8) run = FRAME_MAX - 8;
        uint8_t *p = wire_payload();
        memcpy(p, &s->sent, 8);
        memcpy(p + 8, s->buffer + at, run);
        wire_send(OUTPUT, which, id, run + 8);
        s->sent += run;
    }
}

void stream_close(struct stream *s) {
    stop(s);
    if (s->spill >= 0) close(s->spill);
    s->spill = -1;
    if (s->buffer) munmap(s->buffer, s->size);
    s->buffer = NULL;
}
