/* Code that all kernels share: the choice of instructions, and threads. */
#include "native.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifdef HAVE_X86
#include <cpuid.h>
#endif

#ifndef LIBRARY_SOURCES
#define LIBRARY_SOURCES ""
#endif
const char *leanspike_native_sources(void) { return LIBRARY_SOURCES; }

#ifdef HAVE_X86
/* Returns the registers that the system saves when it switches threads, as bits of XCR0. */
static unsigned saved_registers(void) {
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
#endif

/* Asks the processor itself. __builtin_cpu_supports needs the compiler's own library; with that of zig it
 * always answers no. */
int leanspike_best_instructions(void) {
#ifdef HAVE_X86
    const unsigned avx = 0x06, avx512 = 0xe6; /* bits of XCR0 */
    const unsigned osxsave = 1u << 27;        /* a bit of leaf 1 */
    const unsigned avx2 = 1u << 5, f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & osxsave)) return INSTRUCTIONS_PLAIN;
    const unsigned saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & avx2)) return INSTRUCTIONS_PLAIN;
    if ((saved & avx512) == avx512 && (b & f_dq_bw_vl) == f_dq_bw_vl) return INSTRUCTIONS_AVX512;
    if ((saved & avx) == avx) return INSTRUCTIONS_AVX2;
#endif
    return INSTRUCTIONS_PLAIN;
}

int leanspike_has_matrix_units(void) {
#ifdef HAVE_X86
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1u); /* AMX-BF16 */
#else
    return 0;
#endif
}

/* Threads take one run of pieces after another, so that each thread reads long stretches of memory. The
 * calling thread works, too, and waits only for runs that others have begun. A helper that starts late
 * finds no work and leaves the team. If the caller has a pool of OpenMP threads, helpers are taken from
 * it: its threads wait for work by spinning, and new threads would share the processors with them.
 * Else no thread outlives the call, so a later fork cannot break any. */

enum { LONGEST_RUN = 8, MOST_HELPERS = 63 };

typedef struct {
    native_job job;
    int64_t run;                     /* pieces */
    size_t room;                     /* bytes for each thread, in whole lines of the cache */
    atomic_int_least64_t next, done; /* pieces */
    atomic_int workers, holders;     /* threads that began; threads that may still read the team */
    _Alignas(LINE) char scratch[];
} team;

static void work(void *data) {
    team *t = data;
    char *scratch = t->scratch + t->room * (size_t)atomic_fetch_add(&t->workers, 1);
    int64_t first;
    while ((first = atomic_fetch_add(&t->next, t->run)) < t->job.pieces)
        for (int64_t p = first; p < first + t->run && p < t->job.pieces; p++) {
            t->job.work(t->job.task, p, scratch);
            atomic_fetch_add(&t->done, 1);
        }
}

static void let_go(team *t) {
    if (atomic_fetch_sub(&t->holders, 1) == 1) free(t);
}

static void *help(void *data) {
    work(data);
    let_go(data);
    return NULL;
}

static void run_with(team *t, int helpers) {
    for (int i = 0; i < helpers; i++) {
        pthread_t thread;
        atomic_fetch_add(&t->holders, 1);
        if (pthread_create(&thread, NULL, help, t) == 0) pthread_detach(thread);
        else atomic_fetch_sub(&t->holders, 1);
    }
    work(t);
    int polls = 0;
    while (atomic_load(&t->done) < t->job.pieces)
        if (polls < 50000) polls++;
        else sched_yield(); /* no run takes so long, so its thread was suspended */
}

int native_run(const native_job *job, const native_means *means) {
    int64_t threads = means->threads < job->pieces ? means->threads : job->pieces;
    if (threads > MOST_HELPERS + 1) threads = MOST_HELPERS + 1;
    int helpers = threads > 1 ? (int)threads - 1 : 0;
    size_t room = (job->scratch + LINE - 1) / LINE * LINE;
    team *t = aligned_alloc(LINE, sizeof *t + room * (size_t)(1 + helpers));
    if (!t) return -1;
    *t = (team){.job = *job, .room = room, .holders = 1};
    t->run = job->pieces / (4 * (1 + helpers)); /* so short that all threads end at about the same time */
    if (t->run > LONGEST_RUN) t->run = LONGEST_RUN;
    if (t->run < 1) t->run = 1;
    if (helpers > 0 && means->parallel)
        means->parallel(work, t, (unsigned)helpers + 1, 0); /* returns when the whole team has returned */
    else
        run_with(t, helpers);
    let_go(t);
    return 0;
}
