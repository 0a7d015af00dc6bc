/* What the checks of the kernels share: numbers at random, buffers that end where they say, ways to
 * call a kernel, and what to say when a result is wrong. */
#ifndef LEANSPIKE_CHECK_H
#define LEANSPIKE_CHECK_H

#include "../../src/native/native.h"

#include <stdnoreturn.h>

/* Numbers at random; each thread has its own. */
typedef struct {
    uint64_t state;
    int64_t calls; /* of kernels, so far */
    int driver;    /* the number of the thread */
} dice;

int64_t below(dice *d, int64_t limit);         /* 0 ... limit - 1 */
int64_t one_of(dice *d, const int64_t *from);  /* of what ends with a -1 */
float uniform(dice *d);                        /* in [0, 1) */
float normal(dice *d);                         /* roughly */

/* Bytes on the heap, no more than were asked for: the sanitizer sees what is read or written beyond
 * them. They begin with a line of the cache if they are whole lines. */
void *exactly(int64_t bytes);

/* A tensor of so many elements, float32 or bfloat16; get() and put() are load() and its reverse. */
static inline void *tensor(int64_t elements, int bf16) { return exactly(elements * (bf16 ? 2 : 4)); }
void put(void *data, int64_t i, float value, int bf16);

/* An instruction set, in 1 to 4 threads of the kernel's own, or of a pool like that of GOMP_parallel. */
native_means some_means(dice *d, int instructions);

/* Ends the program, with a message for people. */
noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* All checks of one kernel with one instruction set, with new sizes and values at each call. */
void check_lif(dice *d, int instructions);
void check_large_lif(dice *d, int instructions);
void check_norm(dice *d, int instructions);
void check_convolution(dice *d, int instructions);
void check_winograd(dice *d, int instructions);
void check_pool(dice *d, int instructions);
void check_rate_gradients(dice *d, int instructions);
void check_density(dice *d);

#endif
