/* A pool that does what GOMP_parallel does, for programs without OpenMP. */
#ifndef LEANSPIKE_POOL_H
#define LEANSPIKE_POOL_H

#include <pthread.h>
#include <stddef.h>

typedef struct {
    void (*work)(void *);
    void *data;
} pool_task;

static void *in_pool(void *task) {
    pool_task *t = task;
    t->work(t->data);
    return NULL;
}

/* The caller works, too, and all have ended on return. */
static void parallel(void (*work)(void *), void *data, unsigned threads, unsigned flags) {
    pool_task task = {work, data};
    pthread_t others[4];
    unsigned begun = 0;
    (void)flags;
    while (begun + 1 < threads && pthread_create(&others[begun], NULL, in_pool, &task) == 0) begun++;
    work(data);
    while (begun > 0) pthread_join(others[--begun], NULL);
}

#endif
