/* The functions of _engine.so beside the engine's own: threads over images, or over the work of one image. */
#define _POSIX_C_SOURCE 200809L
#include "engine.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#ifndef LIBRARY_SOURCES
#define LIBRARY_SOURCES ""
#endif
const char *ls_engine_sources(void) { return LIBRARY_SOURCES; }

enum { MOST_THREADS = 64, LINE = 64 };

double ls_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int32_t threads_of(const ls_batch *b) {
    return b->threads < 1 ? 1 : b->threads > MOST_THREADS ? MOST_THREADS : b->threads;
}

/* The bytes of one state, in whole lines. */
static size_t state_room(const ls_batch *b) {
    size_t room = ls_state_room(b->program, b->steps > 0 ? b->steps : 1);
    return (room + LINE - 1) / LINE * LINE;
}

static int32_t states_of(const ls_batch *b) { return b->count < threads_of(b) ? 1 : threads_of(b); }

size_t ls_batch_room(const ls_batch *b) { return state_room(b) * (size_t)states_of(b); }

/* Answers one image. */
static int answer(const ls_batch *b, ls_state *state, int64_t image) {
    int64_t outputs = ls_about(b->program).outputs;
    const float *x = b->images + image * b->size;
    if (b->steps > 0) return ls_run(state, x, 0, b->steps, b->logits + image * b->steps * outputs);
    b->taken[image] = ls_answer(state, x, b->margin, b->latest, b->logits + image * outputs);
    return b->taken[image] < 0 ? -1 : 0;
}

/* ---- Threads: of the caller's pool, or of this call ---- */

typedef struct {
    void (*work)(void *);
    void *data;
} task;

static void *do_task(void *data) {
    task *t = data;
    t->work(t->data);
    return NULL;
}

/* Lets several threads do the same, the caller among them. Returns when all have ended. */
static void run_in(const ls_batch *b, void (*work)(void *), void *data) {
    task same = {work, data};
    pthread_t helpers[MOST_THREADS];
    int32_t begun = 0, wanted = threads_of(b) - 1;
    if (b->parallel && wanted > 0) {
        b->parallel(work, data, (unsigned)wanted + 1, 0);
        return;
    }
    while (begun < wanted && pthread_create(&helpers[begun], NULL, do_task, &same) == 0) begun++;
    work(data);
    for (int32_t i = 0; i < begun; i++) pthread_join(helpers[i], NULL);
}

/* ---- Threads over images: each takes the next one ---- */

typedef struct {
    const ls_batch *batch;
    atomic_int_least64_t next;
    atomic_int states, failed;
} images;

static void answer_images(void *data) {
    images *all = data;
    const ls_batch *b = all->batch;
    size_t room = state_room(b);
    char *memory = (char *)b->memory + room * (size_t)atomic_fetch_add(&all->states, 1);
    ls_state *state = ls_begin(b->program, b->steps > 0 ? b->steps : 1, memory, room);
    int64_t image;
    if (!state) atomic_store(&all->failed, 1);
    while (state && (image = atomic_fetch_add(&all->next, 1)) < b->count)
        if (answer(b, state, image) != 0) atomic_store(&all->failed, 1);
}

/* ---- Threads over the work of one image: a team that lives as long as the call ---- */

/* The caller begins at once; helpers take part in the jobs that are shared out after they have come. */
typedef struct {
    const ls_batch *batch;
    pthread_t caller;
    ls_state *state;
    int failed;
    void (*work)(void *, int32_t);
    void *data;
    int32_t pieces;
    atomic_int next;             /* the next piece */
    atomic_int_least64_t jobs;   /* JOB times the jobs so far, plus the helpers that have come; END: no more */
    atomic_int_least64_t done;   /* helpers that have done their part of the job */
} team;

enum { POLLS = 2000 };
static const int64_t JOB = (int64_t)1 << 16, END = (int64_t)1 << 62;

static void wait_a_little(int32_t *polls) {
    if (++*polls > POLLS) sched_yield();
}

static void work_at(team *t) {
    int32_t piece;
    while ((piece = atomic_fetch_add(&t->next, 1)) < t->pieces) t->work(t->data, piece);
}

static void help(team *t) {
    int64_t now = atomic_fetch_add(&t->jobs, 1);
    while (now < END) {
        int64_t seen = now / JOB;
        int32_t polls = 0;
        while ((now = atomic_load(&t->jobs)) / JOB == seen) wait_a_little(&polls);
        if (now >= END) return;
        work_at(t);
        atomic_fetch_add(&t->done, 1);
    }
}

static void share_out(void *self, int32_t pieces, void (*work)(void *, int32_t), void *data) {
    team *t = self;
    int32_t polls = 0;
    t->work = work, t->data = data, t->pieces = pieces;
    atomic_store(&t->next, 0);
    atomic_store(&t->done, 0);
    int64_t helpers = atomic_fetch_add(&t->jobs, JOB) % JOB;
    work_at(t);
    while (atomic_load(&t->done) < helpers) wait_a_little(&polls);
}

static void answer_in_team(void *data) {
    team *t = data;
    if (!pthread_equal(pthread_self(), t->caller)) {
        help(t);
        return;
    }
    for (int64_t image = 0; image < t->batch->count; image++) t->failed |= answer(t->batch, t->state, image);
    atomic_fetch_add(&t->jobs, END);
}

int ls_run_batch(const ls_batch *b) {
    if (!state_room(b)) return -1;
    if (b->count >= threads_of(b)) {
        images all = {.batch = b};
        run_in(b, answer_images, &all);
        return atomic_load(&all.failed) ? -1 : 0;
    }
    team all = {.batch = b, .caller = pthread_self()};
    const ls_team shared = {share_out, &all};
    all.state = ls_begin(b->program, b->steps > 0 ? b->steps : 1, b->memory, state_room(b));
    if (!all.state) return -1;
    if (threads_of(b) > 1) ls_share(all.state, &shared);
    run_in(b, answer_in_team, &all);
    return all.failed;
}
