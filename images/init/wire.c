/* Frames in and out.
 *
 * A host may die in the middle of a frame, and the next one begins where it stopped. So a frame counts only when its
 * header and its trailer both carry the epoch this connection chose, and after anything else all input is thrown away
 * up to the magic that opens a connection.
 */
#include "init.h"

#include <unistd.h>

static const uint8_t MAGIC[16] = "\x7fusermode-wire\x01";

enum { WHOLE = FRAME_MAX + (int)sizeof(struct header) + 4, IN_SIZE = 4 * WHOLE, OUT_SIZE = 8 * WHOLE };

int wire_in = 0, wire_out = 1;
static uint8_t in[IN_SIZE] PAGES, out[OUT_SIZE] PAGES;
static size_t in_start, in_end, out_start, out_end;
static uint32_t epoch;
static bool hunting = true;

void wire_init(void) {
    keep_out_of_children(in, sizeof in);
    keep_out_of_children(out, sizeof out);
}

static void make_room(void) {
    if (in_start == in_end) in_start = in_end = 0;
    else if (in_start > 0 && IN_SIZE - in_end < WHOLE) {
        memmove(in, in + in_start, in_end - in_start);
        in_end -= in_start;
        in_start = 0;
    }
}

int wire_fill(void) {
    make_room();
    if (in_end == IN_SIZE) return -1;
    ssize_t n = read(wire_in, in + in_end, IN_SIZE - in_end);
    if (n > 0) in_end += (size_t)n;
    return n < 0 ? -1 : (int)n;
}

void wire_feed(const uint8_t *bytes, size_t length) {
    make_room();
    if (length > IN_SIZE - in_end) length = IN_SIZE - in_end;
    memcpy(in + in_end, bytes, length);
    in_end += length;
}

/* Throws away everything before the magic. True once it was found and taken. */
static bool hunt(void) {
    while (in_end - in_start >= sizeof MAGIC) {
        if (memcmp(in + in_start, MAGIC, sizeof MAGIC) == 0) {
            in_start += sizeof MAGIC;
            return true;
        }
        uint8_t *next = memchr(in + in_start + 1, MAGIC[0], in_end - in_start - 1);
        in_start = next ? (size_t)(next - in) : in_end;
    }
    return false;
}

const struct header *wire_next(const uint8_t **payload) {
    static struct header h;
    static bool opening;
    for (;;) {
        if (hunting) {
            if (!hunt()) return NULL;
            hunting = false;
            opening = true;
        }
        if (in_end - in_start < sizeof h) return NULL;
        memcpy(&h, in + in_start, sizeof h);
        bool sound = h.length <= FRAME_MAX && h.zero == 0 && (opening ? h.type == HELLO && h.epoch != 0 : h.epoch == epoch);
        if (sound) {
            size_t whole = sizeof h + h.length + 4;
            if (in_end - in_start < whole) return NULL;
            sound = get32(in + in_start + sizeof h + h.length) == h.epoch;
            if (sound) {
                *payload = in + in_start + sizeof h;
                in_start += whole;
                opening = false;
                return &h;
            }
        }
        hunting = true;
        in_start += 1;
    }
}

bool wire_room(void) {
    if (out_start == out_end) out_start = out_end = 0;
    else if (OUT_SIZE - out_end < 2 * WHOLE && out_start > 0) {
        memmove(out, out + out_start, out_end - out_start);
        out_end -= out_start;
        out_start = 0;
    }
    return OUT_SIZE - out_end >= 2 * WHOLE;
}

bool wire_spare(void) { return wire_room() && out_end - out_start < 2 * WHOLE; }

uint8_t *wire_payload(void) { return out + out_end + sizeof(struct header); }

void wire_send(uint8_t type, uint8_t flag, uint64_t id, size_t length) {
    struct header h = {.epoch = epoch, .length = (uint32_t)length, .type = type, .flag = flag, .id = id};
    if (length > FRAME_MAX || OUT_SIZE - out_end < sizeof h + length + 4) return;  /* callers ask wire_room() first */
    memcpy(out + out_end, &h, sizeof h);
    memcpy(out + out_end + sizeof h + length, &epoch, 4);
    out_end += sizeof h + length + 4;
}

void wire_reply(uint8_t type, uint64_t id, const void *payload, size_t length) {
    if (OUT_SIZE - out_end < sizeof(struct header) + length + 4) return;
    if (length) memcpy(wire_payload(), payload, length);
    wire_send(type, FLAG_END, id, length);
}

void wire_fail(uint64_t id, int error) {
    uint32_t code = (uint32_t)error;
    wire_reply(FAIL, id, &code, sizeof code);
}

bool wire_pending(void) { return out_end > out_start; }

int wire_flush(void) {
    while (out_end > out_start) {
        ssize_t n = write(wire_out, out + out_start, out_end - out_start);
        if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        out_start += (size_t)n;
    }
    out_start = out_end = 0;
    return 0;
}

/* What was meant for the last host goes; the new one finds its place by its own nonce. */
void wire_greet(uint32_t new_epoch, const uint8_t nonce[16]) {
    epoch = new_epoch;
    out_start = 0;
    memcpy(out, nonce, 16);
    out_end = 16;
}
