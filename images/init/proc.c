/* Who descends from whom, read from /proc, and ending all of it.
 *
 * A process that is not stopped can fork while we look, so ending means: stop all that are seen, look again until
 * nothing new runs, then kill. Directory order in /proc is by pid, so the table is sorted as it is read.
 */
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct process { pid_t pid, parent; char state; } table[MAX_PROCESSES] PAGES;
static int processes;

void proc_init(void) { keep_out_of_children(table, sizeof table); }

struct entry { uint64_t inode; int64_t offset; unsigned short length; unsigned char type; char name[]; };

static bool read_stat(int proc, const char *name, struct process *p) {
    char path[32], text[512];
    size_t length = strlen(name);
    if (length > 16) return false;
    memcpy(path, name, length);
    memcpy(path + length, "/stat", 6);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = 0;
    char *after = strrchr(text, ')');   /* the name before it may hold anything */
    if (!after || after[1] != ' ' || !after[2]) return false;
    p->pid = atoi(name);
    p->state = after[2];
    p->parent = atoi(after + 3);
    return true;
}

static void scan(void) {
    static char buffer[32768] __attribute__((aligned(8)));
    processes = 0;
    int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0) return;
    long n;
    while ((n = syscall(SYS_getdents64, proc, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < n;) {
            struct entry *e = (struct entry *)(buffer + at);
            at += e->length;
            if (e->name[0] < '1' || e->name[0] > '9' || processes == MAX_PROCESSES) continue;
            if (read_stat(proc, e->name, &table[processes])) processes++;
        }
    }
    close(proc);
}

static struct process *find(pid_t pid) {
    int low = 0, high = processes - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (table[middle].pid == pid) return &table[middle];
        if (table[middle].pid < pid) low = middle + 1;
        else high = middle - 1;
    }
    return NULL;
}

/* The first of `roots` above this process, or -1. A pid used anew while we read may close a circle: bounded. */
static int root_of(const struct process *p, const pid_t *roots, int count) {
    for (int depth = 0; p && depth < processes; depth++) {
        for (int i = 0; i < count; i++)
            if (roots[i] > 0 && p->parent == roots[i]) return i;
        p = find(p->parent);
    }
    return -1;
}

int proc_look(void) {
    scan();
    return processes;
}

pid_t proc_pid(int place) { return table[place].pid; }
int proc_root(int place, const pid_t *roots, int count) { return root_of(&table[place], roots, count); }

int proc_count(pid_t root) {
    int count = 0;
    proc_counts(&root, &count, 1);
    return count;
}

void proc_counts(const pid_t *roots, int *counts, int count) {
    memset(counts, 0, (size_t)count * sizeof *counts);
    scan();
    for (int i = 0; i < processes; i++) {
        int root = table[i].state == 'Z' ? -1 : root_of(&table[i], roots, count);
        if (root >= 0) counts[root]++;
    }
}

void proc_tell(pid_t root, int signal) {
    scan();
    for (int i = 0; i < processes; i++)
        if (table[i].state != 'Z' && root_of(&table[i], &root, 1) >= 0) kill(table[i].pid, signal);
}

enum { PASSES = 8 };

int proc_end(pid_t root, int signal) {
    int living = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        int running = 0;
        living = 0;
        scan();
        for (int i = 0; i < processes; i++) {
            struct process *p = &table[i];
            if (p->state == 'Z' || root_of(p, &root, 1) < 0) continue;
            living++;
            if (signal != SIGKILL) {
                kill(p->pid, signal);
                kill(p->pid, SIGCONT);
            } else if (p->state != 'T') {
                running++;
                kill(p->pid, SIGSTOP);
            }
        }
        if (signal != SIGKILL) return living;
        if (!running) break;
    }
    for (int i = 0; i < processes; i++)
        if (table[i].state != 'Z' && root_of(&table[i], &root, 1) >= 0) kill(table[i].pid, SIGKILL);
    return living;
}

/* Children of PID 1 that are no supervisor: their own was killed by the guest. They and theirs go. */
int proc_end_strays(const pid_t *supervisors, int count) {
    int strays = 0;
    pid_t self = getpid();
    scan();
    for (int i = 0; i < processes; i++) {
        struct process *p = &table[i];
        if (p->pid == self || p->state == 'Z' || root_of(p, supervisors, count) >= 0) continue;
        bool supervisor = false;
        for (int k = 0; k < count; k++) supervisor = supervisor || supervisors[k] == p->pid;
        if (supervisor || root_of(p, &self, 1) < 0) continue;
        kill(p->pid, SIGKILL);
        strays++;
    }
    return strays;
}
