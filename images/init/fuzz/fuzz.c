/* A fuzz target for everything init parses: frames, spawn requests, file and call requests.
 *
 * `LLVMFuzzerTestOneInput` is what libFuzzer and AFL++ drive. The main below needs neither: it makes inputs from a
 * seed: raw bytes for the framing, sound frames with hostile payloads, and series of requests about connections that
 * this program makes with itself. Built with
 * AddressSanitizer and UBSan, and run where it may touch any file: inside a sandbox.
 *
 *   fuzz SECONDS SEED
 */
#define main init_main
#include "../main.c"
#undef main

#include <stdio.h>

static const uint8_t GREETING[16] = "\x7fusermode-wire\x01";
enum { EPOCH = 0x5eed };

static size_t put_frame(uint8_t *to, uint8_t type, uint8_t flag, uint16_t aux, uint64_t id, const uint8_t *payload, uint32_t length) {
    struct header h = {.epoch = EPOCH, .length = length, .type = type, .flag = flag, .aux = aux, .id = id};
    uint32_t trailer = EPOCH;
    memcpy(to, &h, sizeof h);
    memcpy(to + sizeof h, payload, length);
    memcpy(to + sizeof h + length, &trailer, 4);
    return sizeof h + length + 4;
}

static void greet(void) {
    static uint8_t bytes[128];
    uint8_t payload[28] = {WIRE_VERSION};
    memcpy(bytes, GREETING, 16);
    wire_feed(bytes, 16 + put_frame(bytes + 16, HELLO, 0, 0, 0, payload, sizeof payload));
}

static void drain(void) {
    static struct spawn_request ask;
    const uint8_t *payload;
    const struct header *h;
    while (wire_room() && (h = wire_next(&payload))) {
        uint8_t *copy = malloc(h->length + 1);   /* of its own size, so that a byte too far is seen */
        memcpy(copy, payload, h->length);
        bool sound_hello = h->type == HELLO && h->length == 28 && get32(copy) == WIRE_VERSION;
        copy = realloc(copy, h->length ? h->length : 1);
        if (h->type == SPAWN) spawn_parse(copy, h->length, &ask);   /* read, not run */
        else if (h->type != SHUTDOWN && (h->type != HELLO || sound_hello)) dispatch(h, copy);
        free(copy);
        wire_flush();
    }
    for (int i = 0; i < 4; i++) {
        files_pump();
        wire_flush();
    }
}

static void serve(void) {
    static struct pollfd fds[CONN_POLLFDS];
    int count = conns_pollfds(fds);
    poll(fds, (nfds_t)count, 0);
    conns_serve(fds, count);
    wire_flush();
}

/* Six bytes a request: type, flag, whose stream, length (times 97), port, filling. */
static void converse(const uint8_t *data, size_t size) {
    static uint8_t bytes[FRAME_MAX + 64], payload[FRAME_MAX];
    for (; size >= 6; data += 6, size -= 6) {
        uint8_t type = (uint8_t)(LISTEN + data[0] % 6);
        bool named = type == LISTEN || type == CONNECT;
        uint32_t length = named && data[3] % 8 ? 2 : data[3] * 97u;
        uint16_t port = (uint16_t)(40001 + data[4] % 3);
        uint64_t whose = data[2] % 8, id = named || whose < 4 ? 1 + whose : conns_last() - (whose - 4);
        memset(payload, data[5], length);
        memcpy(payload, &port, sizeof port);
        if (type == STREAM_CREDIT) length = data[3] % 8 ? 8 : length;
        wire_feed(bytes, put_frame(bytes, type, data[1], 0, id, payload, length));
        drain();
        for (int i = 0; i < 3; i++) serve();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t bytes[FRAME_MAX + 64];
    if (wire_out == 1) {
        wire_out = open("/dev/null", O_WRONLY | O_CLOEXEC);
        calls_init();
        conns_init();
    }
    if (size < 6) return 0;
    greet();
    if (data[0] % 8 == 2) {
        converse(data + 1, size - 1);
    } else if (data[0] & 1) {   /* a sound frame around a hostile payload */
        uint32_t length = size - 6 > FRAME_MAX ? FRAME_MAX : (uint32_t)(size - 6);
        uint64_t id = data[4] & 3;
        wire_feed(bytes, put_frame(bytes, data[1], data[2], data[3], id, data + 6, length));
    } else {
        wire_feed(data + 1, size - 1);
    }
    drain();
    static const uint8_t zeros[FRAME_MAX + 28];
    wire_feed(zeros, sizeof zeros);   /* whatever was left half said ends here */
    drain();
    return 0;
}

#ifndef USE_LIBFUZZER
static uint64_t state;

static uint32_t next(void) {   /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dULL) >> 32);
}

static size_t make_input(uint8_t *to) {
    static const char *paths[] = {"/", "/tmp", "/tmp/fuzz", "/dev/null", "/proc/self/mem", "/tmp/.spill", "relative", ""};
    size_t size = 6 + next() % (next() % 8 ? 120 : 4096);
    for (size_t i = 0; i < size; i++) to[i] = (uint8_t)(next() % 3 ? next() : 0);
    to[0] = (uint8_t)next();
    to[1] = (uint8_t)(next() % (GLANCE + 2));
    if (to[0] & 1 && next() % 2) {   /* a path where one is expected, so that what comes after it is reached */
        const char *path = paths[next() % (sizeof paths / sizeof *paths)];
        size_t at = to[1] == READ ? 16 : to[1] == WRITE ? 40 : 0, length = strlen(path) + 1;
        if (6 + at + length <= size) memcpy(to + 6 + at, path, length);
    }
    if (to[1] == SPAWN && size > 60) {   /* counts that are nearly right, so that the strings are reached */
        uint16_t argc = (uint16_t)(next() % 6), envc = (uint16_t)(next() % 4);
        uint32_t output = 4096, input = next() % 2 ? next() % 64 : next(), zero = 0;
        memcpy(to + 6 + 12, &output, 4);
        memcpy(to + 6 + 28, &argc, 2);
        memcpy(to + 6 + 30, &envc, 2);
        memcpy(to + 6 + 32, &input, 4);
        memcpy(to + 6 + 36, &zero, 4);
    }
    return size;
}

int main(int count, char **words) {
    static uint8_t input[8192];
    double seconds = count > 1 ? atof(words[1]) : 5;
    state = count > 2 ? strtoull(words[2], NULL, 0) | 1 : 1;
    uint64_t end = now_us() + (uint64_t)(seconds * 1e6), inputs = 0;
    while (now_us() < end || inputs < 1000) {
        LLVMFuzzerTestOneInput(input, make_input(input));
        inputs++;
    }
    printf("%llu inputs, no fault\n", (unsigned long long)inputs);
    return 0;
}
#endif
