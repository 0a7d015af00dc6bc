/* Declarations that all kernels share: the build's sources, instruction sets, threads, bfloat16. */
#ifndef LEANSPIKE_NATIVE_H
#define LEANSPIKE_NATIVE_H

#include "../engine/instructions.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LINE = 64 }; /* bytes of a line of the cache */

/* A digest of what the library was built from (leanspike_runtime/sources.py; "" if the build gave none): callers
 * beside other sources must not call anything else. */
const char *leanspike_native_sources(void);

/* Returns the best instruction set of this processor and this build. */
int leanspike_best_instructions(void);

/* Returns whether this processor has units for matrix products in bfloat16 (AMX). */
int leanspike_has_matrix_units(void);

/* The means that a caller gives for the work. */
typedef struct {
    /* GOMP_parallel of the pool with which the caller computes; NULL: own threads. */
    void (*parallel)(void (*work)(void *), void *data, unsigned threads, unsigned flags);
    int32_t threads; /* the most threads; no result depends on it */
    int32_t instructions;
} native_means;

/* Work in pieces. Each piece writes to places of its own. */
typedef struct {
    void (*work)(const void *task, int64_t piece, void *scratch);
    const void *task;
    int64_t pieces;
    size_t scratch; /* bytes for each thread, from the beginning of a line of the cache */
} native_job;

/* Returns 0 when all pieces are done. If memory is short, it returns -1 and does nothing. */
int native_run(const native_job *job, const native_means *means);

/* The same in as many threads as `work`, elements of all steps that are walked through, is worth. */
int native_run_walk(const native_job *job, const native_means *means, int64_t work);

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t parts(int64_t all, int64_t size) { return (all + size - 1) / size; }

/* Rounds to nearest even, and every NaN to the same quiet NaN. */
static inline uint16_t to_bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

static inline float from_bfloat16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float widened;
    memcpy(&widened, &bits, sizeof widened);
    return widened;
}

/* Returns element i of a tensor of bfloat16 or float32. */
static inline float load(const void *data, int64_t i, const int bf16) {
    return bf16 ? from_bfloat16(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

/* Writes element i of such a tensor. */
static inline void store(void *data, int64_t i, float value, const int bf16) {
    if (bf16) ((uint16_t *)data)[i] = to_bfloat16(value);
    else ((float *)data)[i] = value;
}

#endif
