/* What _engine.so has beside the engine: many images at once, in threads; for ctypes. */
#ifndef LEANSPIKE_ENGINE_H
#define LEANSPIKE_ENGINE_H

#include "kernels.h"

/* A digest of what the library was built from (leanspike_runtime/sources.py; "" if the build gave none):
 * callers beside other sources must not call anything else. */
const char *ls_engine_sources(void);

/* Images by themselves: a state for each thread. Threads share out the images, or, where these are
 * fewer, the work of each image. No result depends on them. */
typedef struct {
    const ls_program *program;
    const float *images;   /* [images][size], where size holds all steps of an image */
    int64_t size, count;   /* floats of an image; images */
    int32_t threads;
    int32_t steps;         /* T: logits [images][T][K]. 0: early exit */
    int32_t latest;        /* early exit: as ls_answer; logits [images][K] */
    float margin;
    float *logits;
    int32_t *taken;        /* early exit: the steps of each image */
    void *memory;          /* ls_batch_room() bytes */
} ls_batch;

size_t ls_batch_room(const ls_batch *batch);

/* Returns 0, or -1 where ls_begin, ls_run or ls_answer would refuse. */
int ls_run_batch(const ls_batch *batch);

/* Seconds of a clock that only goes forwards, for ls_watch. */
double ls_now(void);

#endif
