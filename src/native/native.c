/* Code that all kernels share: the choice of instructions, and threads. */
#include "native.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#ifndef LIBRARY_SOURCES
#define LIBRARY_SOURCES ""
#endif
const char *leanspike_native_sources(void) { return LIBRARY_SOURCES; }

int leanspike_best_instructions(void) { return best_instructions(); }

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

enum {
    WORTH_A_THREAD = 1 << 18, /* elements of all steps, of a new one */
    WORTH_A_WAITING = 1 << 15 /* of one that waits in the caller's pool */
};

int native_run_walk(const native_job *job, const native_means *means, int64_t work) {
    native_means fewer = *means;
    int64_t worth = work / (means->parallel ? WORTH_A_WAITING : WORTH_A_THREAD);
    if (fewer.threads > worth) fewer.threads = (int32_t)worth;
    return native_run(job, &fewer);
}
