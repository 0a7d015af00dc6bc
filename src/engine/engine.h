/* The functions of _engine.so beside the engine's own, for ctypes: many images at once, in threads. */
#ifndef LEANSPIKE_ENGINE_H
#define LEANSPIKE_ENGINE_H

#include "kernels.h"

/* Returns the digest of the library's sources (leanspike_runtime/sources.py), or "" if the build gave none. A
 * caller beside other sources must call nothing else. */
const char *ls_engine_sources(void);

/* Independent images, with a state for each thread. Threads share out the images. If there are fewer images
 * than threads, they share out the work of each image. No result depends on the threads. */
typedef struct {
    const ls_program *program;
    const float *images;   /* [images][size]; an image may have several steps */
    int64_t size, count;   /* the floats of an image, and the number of images */
    int32_t threads;
    int32_t steps;         /* T, for logits [images][T][K]; 0: early exit */
    int32_t latest;        /* early exit: as in ls_answer, for logits [images][K] */
    float margin;
    float *logits;
    int32_t *taken;        /* early exit: the steps of each image */
    void *memory;          /* ls_batch_room() bytes */
    /* GOMP_parallel of a pool of OpenMP threads, which need not be started for a call; NULL: own threads. */
    void (*parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);
} ls_batch;

size_t ls_batch_room(const ls_batch *batch);

/* Returns 0, or -1 if ls_begin, ls_run or ls_answer refuses. */
int ls_run_batch(const ls_batch *batch);

/* Returns the seconds of a monotonic clock, for ls_watch. */
double ls_now(void);

#endif
