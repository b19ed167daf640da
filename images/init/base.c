/* What every part rests on: the clock, and memory that stays out of children. */
#include "init.h"

#include <sys/mman.h>
#include <time.h>

uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int64_t now_ms(void) { return (int64_t)(now_us() / 1000); }

void keep_out_of_children(void *memory, size_t size) {
    if (madvise(memory, size & ~(size_t)4095, MADV_DONTFORK) < 0) {}   /* only slower */
}
