/* Drives all kernels as a program of its own, several threads at once, against plain loops: to be run
 * under the sanitizers (make sanitize), which cannot look into a Python process as well.
 *
 * kernels [SEED]: with the seed that a failure named, the same checks again. */
#include "check.h"
#include "../pool.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { DRIVERS = 3, ROUNDS = 40 };

static uint64_t seed = 1;

int64_t below(dice *d, int64_t limit) {
    uint64_t z = d->state += 0x9e3779b97f4a7c15u; /* splitmix64, of public domain */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)limit);
}

int64_t one_of(dice *d, const int64_t *from) {
    int64_t n = 0;
    while (from[n] >= 0) n++;
    return from[below(d, n)];
}

float uniform(dice *d) { return (float)below(d, 1 << 24) / (float)(1 << 24); }

float normal(dice *d) {
    float sum = -6.0f;
    for (int i = 0; i < 12; i++) sum += uniform(d);
    return sum;
}

void *exactly(int64_t bytes) {
    void *found = bytes > 0 && bytes % LINE == 0 ? aligned_alloc(LINE, (size_t)bytes)
                                                 : malloc((size_t)bytes);
    if (!found && bytes > 0) fail("no memory for %lld bytes", (long long)bytes);
    return found;
}

void put(void *data, int64_t i, float value, int bf16) {
    if (bf16) ((uint16_t *)data)[i] = to_bfloat16(value);
    else ((float *)data)[i] = value;
}

native_means some_means(dice *d, int instructions) {
    d->calls++;
    return (native_means){.parallel = below(d, 2) ? parallel : NULL,
                          .threads = (int32_t)(1 + below(d, 4)),
                          .instructions = instructions};
}

noreturn void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "kernels %llu: ", (unsigned long long)seed);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static void *drive(void *data) {
    dice *d = data;
    for (int set = 0; set <= leanspike_best_instructions(); set++) {
        check_lif(d, set);
        if (set % DRIVERS == d->driver) check_large_lif(d, set);
        for (int round = 0; round < ROUNDS; round++) check_norm(d, set);
        for (int round = 0; round < ROUNDS; round++) check_convolution(d, set);
        for (int round = 0; round < ROUNDS; round++) check_winograd(d, set);
        for (int round = 0; round < ROUNDS; round++) check_pool(d, set);
        for (int round = 0; round < ROUNDS; round++) check_rate_gradients(d, set);
    }
    check_density(d);
    return NULL;
}

int main(int count, char **arguments) {
    if (count > 1) seed = strtoull(arguments[1], NULL, 10);
    pthread_t threads[DRIVERS];
    dice all[DRIVERS];
    int64_t calls = 0;
    for (int i = 0; i < DRIVERS; i++) {
        all[i] = (dice){.state = seed * 1000003u + (uint64_t)i, .driver = i};
        if (pthread_create(&threads[i], NULL, drive, &all[i])) fail("no thread");
    }
    for (int i = 0; i < DRIVERS; i++) {
        pthread_join(threads[i], NULL);
        calls += all[i].calls;
    }
    printf("kernels %llu: %lld calls in %d threads at once, %d instruction sets, as plain loops say\n",
           (unsigned long long)seed, (long long)calls, DRIVERS, leanspike_best_instructions() + 1);
    return 0;
}
