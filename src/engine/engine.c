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

/* ---- Threads over images: each takes the next one ---- */

typedef struct {
    const ls_batch *batch;
    atomic_int_least64_t next;
    atomic_int states, failed;
} images;

static void *answer_images(void *data) {
    images *all = data;
    const ls_batch *b = all->batch;
    size_t room = state_room(b);
    char *memory = (char *)b->memory + room * (size_t)atomic_fetch_add(&all->states, 1);
    ls_state *state = ls_begin(b->program, b->steps > 0 ? b->steps : 1, memory, room);
    int64_t image;
    if (!state) atomic_store(&all->failed, 1);
    while (state && (image = atomic_fetch_add(&all->next, 1)) < b->count)
        if (answer(b, state, image) != 0) atomic_store(&all->failed, 1);
    return NULL;
}

/* ---- Threads over the work of one image: a team that lives as long as the call ---- */

typedef struct {
    void (*work)(void *, int32_t);
    void *data;
    int32_t pieces;
    atomic_int next;          /* the next piece */
    atomic_int job;           /* counts up; -1: there are no more jobs */
    atomic_int busy, members; /* helpers still at the job; all helpers, without the caller */
} team;

enum { POLLS = 2000 };

static void wait_a_little(int32_t *polls) {
    if (++*polls > POLLS) sched_yield();
}

static void work_at(team *t) {
    int32_t piece;
    while ((piece = atomic_fetch_add(&t->next, 1)) < t->pieces) t->work(t->data, piece);
}

static void *help(void *data) {
    team *t = data;
    for (int32_t seen = 0, job, polls = 0;; polls = 0) {
        while ((job = atomic_load(&t->job)) == seen) wait_a_little(&polls);
        if (job < 0) return NULL;
        seen = job;
        work_at(t);
        atomic_fetch_sub(&t->busy, 1);
    }
}

static void share_out(void *self, int32_t pieces, void (*work)(void *, int32_t), void *data) {
    team *t = self;
    int32_t polls = 0;
    t->work = work, t->data = data, t->pieces = pieces;
    atomic_store(&t->next, 0);
    atomic_store(&t->busy, atomic_load(&t->members));
    atomic_store(&t->job, atomic_load(&t->job) % (1 << 30) + 1);
    work_at(t);
    while (atomic_load(&t->busy) > 0) wait_a_little(&polls);
}

static int answer_in_team(const ls_batch *b) {
    team all = {.pieces = 0};
    pthread_t helpers[MOST_THREADS];
    int32_t wanted = threads_of(b) - 1, begun = 0;
    ls_state *state = ls_begin(b->program, b->steps > 0 ? b->steps : 1, b->memory, state_room(b));
    const ls_team shared = {share_out, &all};
    if (!state) return -1;
    while (begun < wanted && pthread_create(&helpers[begun], NULL, help, &all) == 0) begun++;
    atomic_store(&all.members, begun);
    if (begun > 0) ls_share(state, &shared);
    int failed = 0;
    for (int64_t image = 0; image < b->count; image++) failed |= answer(b, state, image);
    atomic_store(&all.job, -1);
    for (int32_t i = 0; i < begun; i++) pthread_join(helpers[i], NULL);
    return failed;
}

int ls_run_batch(const ls_batch *b) {
    if (!state_room(b)) return -1;
    if (b->count < threads_of(b)) return answer_in_team(b);
    images all = {.batch = b};
    pthread_t helpers[MOST_THREADS];
    int32_t begun = 0;
    while (begun + 1 < threads_of(b) && pthread_create(&helpers[begun], NULL, answer_images, &all) == 0)
        begun++;
    answer_images(&all);
    for (int32_t i = 0; i < begun; i++) pthread_join(helpers[i], NULL);
    return atomic_load(&all.failed) ? -1 : 0;
}
