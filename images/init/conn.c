/* Connections on the loopback inside, carried to the host and back.
 *
 * To the host: read no further than its credit, straight into the frame that carries it. From the host: written at once
 * as far as the program takes it; the rest waits in a ring as large as the credit that was given, mapped when it is
 * first needed. So nobody who has stopped reading holds up anybody else, on either side.
 */
#include "init.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 128, MAX_ACCEPTED = MAX_CONNS - MAX_CONNS / 4 };   /* the rest stays for what the host opens */

struct listener {
    int fd;             /* -1: unused */
    uint16_t port;
    bool claimed;       /* by the host that is there now */
};

struct conn {
    uint64_t id;        /* 0: unused */
    int fd;
    uint16_t port;      /* where it was accepted, or where to connect */
    bool accepted, connecting, sixth;   /* sixth: at ::1 */
    bool host_ended, guest_ended;
    bool fresh;         /* not yet asked about: what poll said of this place is about another */
    uint8_t *ring;
    size_t start, length;
    uint64_t taken, told;     /* from the host: bytes the program has, and of how many of them the host knows */
    uint64_t sent, credit;    /* to the host: bytes, and how many of them it has taken */
};

static struct listener listeners[MAX_LISTENERS];
static struct conn conns[MAX_CONNS];
static int open_conns, open_accepted, turn, used;   /* used: no place from here on is taken */
static uint64_t numbers = CONN_OURS;

uint64_t conns_last(void) { return numbers; }

void conns_init(void) {
    for (int i = 0; i < MAX_LISTENERS; i++) listeners[i].fd = -1;
    for (int i = 0; i < MAX_CONNS; i++) conns[i].fd = -1;
}

static struct conn *find(uint64_t id) {
    for (int i = 0; id && i < used; i++)
        if (conns[i].id == id) return &conns[i];
    return NULL;
}

static void release(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    if (c->ring) munmap(c->ring, CONN_WINDOW);
    open_conns--;
    open_accepted -= c->accepted;
    *c = (struct conn){.fd = -1};
    if (!open_conns) used = 0;
}

/* The program sees a reset: half of an answer must not look like all of it. */
static void reset(struct conn *c) {
    struct linger at_once = {.l_onoff = 1};
    if (c->fd >= 0) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    release(c);
}

static void broken(struct conn *c, int error) {
    uint32_t code = (uint32_t)error;
    wire_reply(STREAM_BROKEN, c->id, &code, sizeof code);
    reset(c);
}

static struct conn *take(uint64_t id, int fd, uint16_t port, bool accepted) {
    struct conn *c = conns;
    while (c < conns + MAX_CONNS && c->id) c++;
    if (c == conns + MAX_CONNS) return NULL;
    *c = (struct conn){.id = id, .fd = fd, .port = port, .accepted = accepted, .fresh = true};
    open_conns++;
    open_accepted += accepted;
    if (c - conns >= used) used = (int)(c - conns) + 1;
    return c;
}

static void set_up(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* --- listening --- */

static int open_listener(uint16_t port) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;   /* no SO_REUSEADDR: gVisor would let a program listen beside us, at 0.0.0.0 */
    if (bind(fd, (struct sockaddr *)&here, sizeof here) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* What a host before this one listened on is still held, so that no program could take it, and goes over to this one. */
static void listen_on(const struct header *h, const uint8_t *payload) {
    struct listener *l = NULL;
    uint16_t port = h->length == 2 ? get16(payload) : 0;
    if (!port) return wire_fail(h->id, EINVAL);
    for (int i = 0; i < MAX_LISTENERS; i++) {
        if (listeners[i].fd >= 0 && listeners[i].port == port) {
            if (listeners[i].claimed) return wire_fail(h->id, EADDRINUSE);
            listeners[i].claimed = true;
            return wire_reply(OK, h->id, NULL, 0);
        }
        if (!l && listeners[i].fd < 0) l = &listeners[i];
    }
    if (!l) return wire_fail(h->id, EMFILE);
    int fd = open_listener(port);
    if (fd < 0) return wire_fail(h->id, -fd);
    *l = (struct listener){.fd = fd, .port = port, .claimed = true};
    wire_reply(OK, h->id, NULL, 0);
}

static void tell_opened(const struct conn *c, const struct origin *o) {
    struct { uint16_t port, zero; int32_t pid; uint64_t call; } fixed = {c->accepted ? c->port : 0, 0, o->pid, o->call};
    uint8_t *p = wire_payload();
    memcpy(p, &fixed, sizeof fixed);
    memcpy(p + sizeof fixed, o->program, o->length);
    wire_send(OPENED, 0, c->id, sizeof fixed + o->length);
}

static void accept_one(const struct listener *l) {
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    struct origin origin;
    int fd = accept4(l->fd, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    struct conn *c = length == sizeof peer ? take(++numbers, fd, l->port, true) : NULL;
    if (!c) {
        close(fd);
        return;
    }
    set_up(fd);
    origin_find(&peer, l->port, &origin);
    tell_opened(c, &origin);
}

/* --- connecting --- */

static int begin(struct conn *c) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(c->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(c->port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const struct sockaddr *to = c->sixth ? (const struct sockaddr *)&six : (const struct sockaddr *)&four;
    if (c->fd >= 0) close(c->fd);
    c->fd = socket(c->sixth ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) return errno;
    set_up(c->fd);
    return connect(c->fd, to, c->sixth ? sizeof six : sizeof four) ? errno : 0;
}

static void went_on(struct conn *c, int error) {
    if (error && error != EINPROGRESS && !c->sixth) {   /* many a server listens on ::1 alone */
        c->sixth = true;
        int other = begin(c);
        error = other && other != EINPROGRESS ? error : other;
    }
    c->connecting = error == EINPROGRESS;
    if (c->connecting) return;
    if (!error) return tell_opened(c, &(struct origin){0});
    wire_fail(c->id, error);
    release(c);
}

static void connect_to(const struct header *h, const uint8_t *payload) {
    uint16_t port = h->length == 2 ? get16(payload) : 0;
    if (!port || !h->id || h->id >= CONN_OURS || find(h->id)) return wire_fail(h->id, EINVAL);
    struct conn *c = take(h->id, -1, port, false);
    if (!c) return wire_fail(h->id, EBUSY);
    went_on(c, begin(c));
}

static void connected(struct conn *c) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length)) error = errno;
    went_on(c, error);
}

/* --- from the host --- */

static void tell_taken(struct conn *c) {
    if (c->taken - c->told < CONN_WINDOW / 4) return;
    c->told = c->taken;
    wire_reply(STREAM_TAKEN, c->id, &c->told, sizeof c->told);
}

/* What the program would take now; -1 when the connection broke with that. */
static ssize_t give(struct conn *c, const uint8_t *data, size_t length) {
    size_t given = 0;
    while (given < length) {
        ssize_t n = send(c->fd, data + given, length - given, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) break;
        if (n < 0) {
            broken(c, errno);
            return -1;
        }
        given += (size_t)n;
    }
    c->taken += given;
    return (ssize_t)given;
}

static void ended(struct conn *c) {
    if (c->length || !c->host_ended) return;
    if (c->guest_ended) release(c);
    else shutdown(c->fd, SHUT_WR);
}

static void give_ring(struct conn *c) {
    while (c->length) {
        size_t run = CONN_WINDOW - c->start < c->length ? CONN_WINDOW - c->start : c->length;
        ssize_t n = give(c, c->ring + c->start, run);
        if (n < 0) return;
        c->start = (c->start + (size_t)n) % CONN_WINDOW;
        c->length -= (size_t)n;
        if ((size_t)n < run) break;
    }
    tell_taken(c);
    ended(c);
}

static bool put(struct conn *c, const uint8_t *data, size_t length) {
    if (!c->ring) {
        void *p = mmap(NULL, CONN_WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) return false;
        c->ring = p;
        keep_out_of_children(p, CONN_WINDOW);
    }
    while (length) {
        size_t at = (c->start + c->length) % CONN_WINDOW, run = CONN_WINDOW - at < length ? CONN_WINDOW - at : length;
        memcpy(c->ring + at, data, run);
        c->length += run;
        data += run;
        length -= run;
    }
    return true;
}

static void take_data(struct conn *c, const struct header *h, const uint8_t *payload) {
    size_t length = h->length;
    if (c->connecting || c->host_ended || length > CONN_WINDOW - c->length) return broken(c, EPROTO);
    c->host_ended = h->flag & FLAG_END;
    ssize_t n = c->length ? 0 : give(c, payload, length);
    if (n < 0) return;
    if ((size_t)n < length && !put(c, payload + n, length - (size_t)n)) return broken(c, ENOMEM);
    tell_taken(c);
    ended(c);
}

/* The host goes, or another has come, who knows nothing of these. Whoever dials now waits until a host listens. */
void conns_let_go(void) {
    for (int i = 0; i < MAX_CONNS; i++)
        if (conns[i].id) reset(&conns[i]);
    for (int i = 0; i < MAX_LISTENERS; i++) listeners[i].claimed = false;
}

void conn_request(const struct header *h, const uint8_t *payload) {
    if (h->type == LISTEN) return listen_on(h, payload);
    if (h->type == CONNECT) return connect_to(h, payload);
    if (h->type == STREAM_ABORT && !h->id) return conns_let_go();
    struct conn *c = find(h->id);
    if (!c) return;   /* it ended while this was under way */
    switch (h->type) {
    case STREAM: take_data(c, h, payload); break;
    case STREAM_CREDIT:
        if (h->length == 8 && get64(payload) <= c->sent && get64(payload) > c->credit) c->credit = get64(payload);
        break;
    case STREAM_ABORT: reset(c); break;
    }
}

/* --- to the host --- */

static size_t window(const struct conn *c) {
    size_t left = CONN_WINDOW - (size_t)(c->sent - c->credit);
    return left < FRAME_MAX ? left : FRAME_MAX;
}

static bool wants(const struct conn *c) { return !c->guest_ended && !c->connecting && window(c); }

static void carry(struct conn *c) {
    ssize_t n = read(c->fd, wire_payload(), window(c));
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) return broken(c, errno);
    c->sent += (uint64_t)n;
    c->guest_ended = n == 0;
    wire_send(STREAM_DATA, n ? 0 : FLAG_END, c->id, (size_t)n);
    if (c->guest_ended && c->host_ended && !c->length) release(c);
}

/* --- the loop's side --- */

/* One for each listener, then one for each connection, so that a place says whose it is. */
int conns_pollfds(struct pollfd *fds) {
    bool room = wire_room(), spare = wire_spare(), more = open_accepted < MAX_ACCEPTED && open_conns < MAX_CONNS;
    for (int i = 0; i < MAX_LISTENERS; i++)
        fds[i] = (struct pollfd){.fd = listeners[i].claimed && more && spare ? listeners[i].fd : -1, .events = POLLIN};
    fds += MAX_LISTENERS;
    for (int i = 0; i < used; i++) {
        struct conn *c = &conns[i];
        short events = (short)((spare && c->id && wants(c) ? POLLIN : 0) | (c->length || c->connecting ? POLLOUT : 0));
        fds[i] = (struct pollfd){.fd = events && room ? c->fd : -1, .events = events};
        c->fresh = false;
    }
    return MAX_LISTENERS + used;
}

/* Each in its turn, one frame at a time, as long as what waits for the wire is little: answers go past a flood. */
void conns_serve(const struct pollfd *fds, int count) {
    for (int i = 0; i < MAX_LISTENERS && wire_spare(); i++)
        if (fds[i].revents && open_accepted < MAX_ACCEPTED && open_conns < MAX_CONNS) accept_one(&listeners[i]);
    fds += MAX_LISTENERS;
    count -= MAX_LISTENERS;
    for (int k = 1, last = turn; k <= count && wire_room(); k++) {
        int i = (last + k) % count;
        struct conn *c = &conns[i];
        if (!fds[i].revents || !c->id || c->fresh) continue;
        if (c->connecting) {
            connected(c);
            continue;
        }
        if (c->length) give_ring(c);
        if (!c->id || !wants(c) || !wire_spare()) continue;
        if (!(fds[i].revents & (POLLIN | POLLHUP | POLLERR))) continue;
        carry(c);
        turn = i;
    }
}
