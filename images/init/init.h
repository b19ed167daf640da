/* init: PID 1 of a session. Shared declarations; the protocol is in PROTOCOL.md.
 *
 * main.c   the poll loop and the table of requests
 * wire.c   frames in and out, resynchronisation
 * base.c   the clock, and memory that stays out of children
 * call.c   commands: what is asked of them, their results
 * table.c  which there are, and which there were
 * input.c  what goes to their standard input
 * ending.c time limits, and ending all that a command has started
 * command.c  what was asked to run, and becoming it
 * spawn.c  starting one: its streams
 * supervisor.c  who starts it, and waits for it and all its descent
 * stream.c what a command writes: kept, spilled, counted, or carried with credit
 * proc.c   who descends from whom, and ending all of it
 * file.c   read, write, stat, list
 * conn.c   connections on the loopback, carried to the host and back
 * origin.c who inside opened one
 * rootrun.c letting go of privilege, and root commands
 * probe.c  what a container is found to be, before anything else runs in it
 * glance.c the part of that which init sees of itself, in every container
 * sha256.c the digest that compare-and-swap names
 *
 * No allocation on a path the guest controls: tables are fixed, buffers of a size the host named are mapped lazily.
 */
#ifndef USERMODE_INIT_H
#define USERMODE_INIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

enum {
    WIRE_VERSION = 1,
    FRAME_MAX = 65536,            /* payload of one frame */
    REQUEST_MAX = 5 * FRAME_MAX,  /* a spawn that came in parts */
    MAX_CALLS = 256,              /* running, kept for acknowledgement, or with living jobs */
    MAX_TRANSFERS = 32,           /* file operations under way */
    STREAM_WINDOW = 256 * 1024,   /* bytes of one carried stream in flight */
    STDIN_WINDOW = 65536,
    OUTPUT_MAX = 16 << 20,
    MAX_ARGS = 4096,
    MAX_ENV = 1024,
    MAX_PROCESSES = 65536,
    MAX_LISTENERS = 16,
    MAX_CONNS = 256,              /* accepted and opened ones together */
    CONN_POLLFDS = MAX_LISTENERS + MAX_CONNS,
    CONN_WINDOW = 512 * 1024,     /* bytes of one connection in flight, each way */
};

/* Requests, host to init. */
enum {
    HELLO = 1, SPAWN, STDIN, SIGNAL, KILL, ACK, CREDIT, PEEK, FETCH, RESIZE, READ, WRITE, WRITE_DATA, STAT, LIST,
    CALLS, PING, LEASE, SHUTDOWN, LISTEN, CONNECT, STREAM, STREAM_CREDIT, STREAM_ABORT,
    GLANCE,
};
/* Replies, init to host. */
enum { WELCOME = 65, OUTPUT, DONE, FAIL, STDIN_CREDIT, DATA, OK, OPENED, STREAM_DATA, STREAM_TAKEN, STREAM_BROKEN };

enum { FLAG_MORE = 1, FLAG_END = 2 };                                   /* header.flag */
enum { SPAWN_TTY = 1, SPAWN_STDIN = 2, SPAWN_STDIN_EOF = 4, SPAWN_CARRY = 8 };
enum { RESULT_TIMED_OUT = 1, RESULT_CANCELLED = 2, RESULT_OOM = 4, RESULT_SPILL_OUT = 8, RESULT_SPILL_ERR = 16 };
enum { KILL_CANCEL = 1, KILL_NOW = 2 };                                 /* header.aux of KILL */
enum { NOT_REGULAR = 1000, ALREADY_DONE = 1001 };                       /* beside errno in FAIL */

struct header {
    uint32_t epoch, length;
    uint8_t type, flag;
    uint16_t aux;
    uint32_t zero;
    uint64_t id;
};

struct result {
    int32_t exit_code, signal;
    uint32_t flags, jobs;
    uint64_t out_total, err_total, duration_us, user_us, system_us, rss_kb;
    uint32_t out_kept, err_kept;
};

/* wire.c */
extern int wire_in, wire_out;
void wire_init(void);
int wire_fill(void);                                       /* bytes read, 0 at end of file, -1 nothing now */
void wire_feed(const uint8_t *bytes, size_t length);       /* for tests */
const struct header *wire_next(const uint8_t **payload);   /* the next whole frame, or NULL */
bool wire_room(void);                                      /* is there room for two of the largest frames? */
bool wire_spare(void);                                     /* so much that a stream may have some of it? */
uint8_t *wire_payload(void);                               /* where the next reply's payload goes; needs wire_room() */
void wire_send(uint8_t type, uint8_t flag, uint64_t id, size_t length);
void wire_reply(uint8_t type, uint64_t id, const void *payload, size_t length);
void wire_fail(uint64_t id, int error);
bool wire_pending(void);
int wire_flush(void);                                      /* -1 when nobody can ever read again */
void wire_greet(uint32_t epoch, const uint8_t nonce[16]);

/* stream.c */
struct stream {
    int fd;              /* -1 when closed */
    bool carried;        /* with credit, as it comes; else kept head and tail */
    uint8_t *buffer;
    size_t size;         /* of the buffer */
    uint64_t total, sent, credit, spill_limit, spilled;
    int spill;           /* -1: none, or no more */
    bool was_spilled, grown;
    int64_t drain;       /* after the main process ended: bytes still to take; -1 while it runs */
    char path[48];
};
void stream_open(struct stream *s, int fd, size_t size, bool carried, uint64_t spill_limit, uint64_t id, int which);
void streams_init(void);
bool stream_wants(const struct stream *s);
void stream_read(struct stream *s);
void stream_main_ended(struct stream *s);
bool stream_drained(const struct stream *s);
size_t stream_kept(const struct stream *s);
size_t stream_copy(const struct stream *s, size_t offset, size_t length, uint8_t *to);
size_t stream_last(const struct stream *s, size_t length, uint8_t *to);
void stream_restart(struct stream *s);    /* acknowledged: keep from here on for whoever looks at the jobs */
void stream_carry(struct stream *s, uint64_t id, uint8_t which);
void stream_close(struct stream *s);

/* call.c */
void call_spawn(uint64_t id, const uint8_t *request, size_t length);
void call_request(const struct header *h, const uint8_t *payload);
void calls_list(uint64_t id, uint8_t type);
void calls_reconnected(void);
int calls_pollfds(struct pollfd *fds);
void calls_serve(const struct pollfd *fds, int count);
void calls_report(void);
int calls_roots(pid_t roots[MAX_CALLS], uint64_t ids[MAX_CALLS]);   /* their supervisors, 0 where nothing lives */

/* ending.c */
void calls_init(void);
void call_child_ended(pid_t pid, int status);
int64_t calls_tick(int64_t now);          /* deadlines and kills; milliseconds until the next, or -1 */
long ooms(void);                          /* processes killed for memory so far */

/* proc.c */
void proc_init(void);
int proc_count(pid_t root);               /* living descendants */
void proc_tell(pid_t root, int signal);   /* to all of them, as they are */
int proc_end(pid_t root, int signal);     /* to all of them; how many there were */
int proc_end_strays(const pid_t *supervisors, int count);
void proc_counts(const pid_t *roots, int *counts, int count);

int proc_look(void);                      /* how many processes there are now; asked about by place: */
pid_t proc_pid(int place);
int proc_root(int place, const pid_t *roots, int count);   /* which of them it descends from, or -1 */

/* conn.c */
#define CONN_OURS (1ULL << 63)            /* the numbers of connections that init opened begin here */
void conns_init(void);
void conn_request(const struct header *h, const uint8_t *payload);
void conns_let_go(void);
int conns_pollfds(struct pollfd *fds);    /* CONN_POLLFDS of them at most */
void conns_serve(const struct pollfd *fds, int count);
uint64_t conns_last(void);                /* the number of the last one accepted; for tests */

/* origin.c */
struct origin {
    uint64_t call;                        /* 0: could not be told */
    pid_t pid;
    size_t length;
    char program[256];                    /* its words, as it shows them itself */
};
struct sockaddr_in;
void origin_find(const struct sockaddr_in *peer, uint16_t port, struct origin *origin);

/* file.c */
void file_request(const struct header *h, const uint8_t *payload);
void files_pump(void);
bool files_pending(void);
void files_reset(void);

/* rootrun.c */
int root_run(void);
void become_user(char **words);

/* probe.c */
int probe(void);

/* glance.c */
void glance(uint64_t id);

/* sha256.c */
struct sha256 { uint32_t state[8]; uint64_t length; uint8_t block[64]; };
void sha256_init(struct sha256 *s);
void sha256_update(struct sha256 *s, const uint8_t *data, size_t length);
void sha256_final(struct sha256 *s, uint8_t digest[32]);

/* base.c */
void keep_out_of_children(void *memory, size_t size);   /* page-aligned; a fork neither copies nor shares it */
#define PAGES __attribute__((aligned(4096)))

int64_t now_ms(void);
uint64_t now_us(void);

static inline uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline uint16_t get16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }

#endif
