/* Event-driven convolutions: dividing the work into pieces, and laying out the weights. */
#include "convolution.h"

#include <stdlib.h>

#ifdef HAVE_X86
#include <immintrin.h>
#endif

enum {
    LANES = 16,          /* floats of the widest vector */
    OUTPUTS = 64,        /* output channels of a block */
    MOST_TAPS = 3,       /* taps whose sums are in registers at once, if there are many registers */
    CHANNELS = 128,      /* input channels of a block: its weights at one tap fit the L1 cache */
    TILE = 64,           /* pixels whose sums stay in the cache */
    MOST_LISTED = 65536, /* inputs whose events are listed at once: they fit the L2 cache */
    LEARNERS = 64,       /* backward: input channels of a piece */
    PIECES = 32,         /* backward: the fewest pieces, if there are as many images */
    PIXELS_AHEAD = 16,   /* backward: pixels fetched before they are needed */
    AHEAD = 1024,        /* forward: elements fetched likewise */
    WEIGHTS_AHEAD = 64   /* forward: weights of a row fetched likewise */
};

typedef struct {
    const convolution_call *call;
    float *packed, *bias;       /* forward: [blocks, taps, channels, OUTPUTS] and [blocks, OUTPUTS] */
    int64_t blocks, taps;       /* blocks of output channels */
    int64_t channel_blocks;
    int64_t strip, strips;      /* output rows (backward: input rows) of a strip, and the strips */
    int64_t group, groups;      /* forward: blocks of a piece */
    int64_t chunk, chunks;      /* backward: images of a piece */
    float *partial;             /* backward: the sums of each piece */
} task;

/* Forward: the events of a strip, and the sums of a tile of output pixels. */
typedef struct {
    float *sums;     /* [TILE, OUTPUTS] */
    float *value;    /* of each event */
    uint16_t *index; /* its channel within the block */
    int32_t *first;  /* of each pixel and block, and one more: where its events begin */
    size_t bytes;    /* the bytes of all arrays */
} event_list;

/* Backward: the places where each of LEARNERS channels is not 0 in a strip, and dL/dy there. */
typedef struct {
    float *grad;  /* [rows, columns, OUTPUTS], 0 beyond the borders of dL/dy */
    float *x;     /* [LEARNERS, places], 0 beyond the borders */
    float *value; /* [LEARNERS, places + LANES] */
    uint16_t *index;
    int64_t places, rows, columns;
    size_t bytes;
} places;

/* Lists which of n neighbouring elements are not 0, and their values; returns how many. There must be room
 * for LANES more entries. Elements that are `ahead` further on are fetched meanwhile. */
static int list_plain(const void *x, int64_t start, int n, int64_t ahead, const int bf16,
                      uint16_t *index, float *value) {
    int found = 0;
    (void)ahead;
    for (int i = 0; i < n; i++) {
        float v = load(x, start + i, bf16);
        index[found] = (uint16_t)i;
        value[found] = v;
        found += v != 0.0f;
    }
    return found;
}
#define list_avx2 list_plain

#ifdef HAVE_X86
static TARGET_avx512 int list_avx512(const void *x, int64_t start, int n, int64_t ahead,
                                     const int bf16, uint16_t *index, float *value) {
    const __m512i ascending =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    int found = 0;
    for (int i = 0; i < n; i += LANES) {
        __mmask16 there = (__mmask16)(n - i < LANES ? (1u << (n - i)) - 1u : 0xffffu);
        __m512 v;
        __builtin_prefetch((const char *)x + (start + i + ahead) * (bf16 ? 2 : 4));
        if (bf16) {
            const uint16_t *from = (const uint16_t *)x + start + i;
            __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from));
            v = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
        } else {
            v = _mm512_maskz_loadu_ps(there, (const float *)x + start + i);
        }
        __mmask16 events = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        __m512i which = _mm512_add_epi32(ascending, _mm512_set1_epi32(i));
        which = _mm512_maskz_compress_epi32(events, which);
        _mm256_storeu_si256((__m256i *)(index + found), _mm512_cvtepi32_epi16(which));
        _mm512_storeu_ps(value + found, _mm512_maskz_compress_ps(events, v));
        found += __builtin_popcountll(events); /* GCC 12 may spill 16 bits and count 32 of them */
    }
    return found;
}
#endif

/* Takes room for so many elements of a size, in whole lines of the cache. */
static void *take(uintptr_t *free_from, int64_t elements, size_t size) {
    uintptr_t taken = *free_from;
    *free_from += ((size_t)elements * size + LINE - 1) / LINE * LINE;
    return (void *)taken;
}

static int64_t listed_rows(const task *t) {
    const convolution_axis *rows = &t->call->rows;
    return least((t->strip - 1) * rows->stride + rows->kernel, rows->input);
}

static event_list lay_out_events(const task *t, void *scratch) {
    const convolution_call *c = t->call;
    int64_t pixels = listed_rows(t) * c->columns.input, room = pixels * c->channels + LANES;
    uintptr_t at = (uintptr_t)scratch;
    event_list e;
    e.sums = take(&at, TILE * OUTPUTS, sizeof(float));
    e.value = take(&at, room, sizeof *e.value);
    e.index = take(&at, room, sizeof *e.index);
    e.first = take(&at, pixels * t->channel_blocks + 1, sizeof *e.first);
    e.bytes = at - (uintptr_t)scratch;
    return e;
}

static places lay_out_places(const task *t, void *scratch) {
    const convolution_call *c = t->call;
    places e = {.rows = t->strip + c->rows.kernel - 1};
    e.columns = c->columns.input + c->columns.kernel - 1;
    e.places = t->strip * e.columns;
    uintptr_t at = (uintptr_t)scratch;
    e.grad = take(&at, e.rows * e.columns * OUTPUTS, sizeof *e.grad);
    e.x = take(&at, LEARNERS * e.places, sizeof *e.x);
    e.value = take(&at, LEARNERS * (e.places + LANES), sizeof *e.value);
    e.index = take(&at, LEARNERS * (e.places + LANES), sizeof *e.index);
    e.bytes = at - (uintptr_t)scratch;
    return e;
}

#define EACH "convolution_block.h"
#include "each_set.h"

typedef void piece_fn(const void *, int64_t, void *);
#ifdef HAVE_X86
static piece_fn *const forward[] = {forward_plain, forward_avx2, forward_avx512};
static piece_fn *const backward[] = {backward_plain, backward_avx2, backward_avx512};
#else
static piece_fn *const forward[] = {forward_plain};
static piece_fn *const backward[] = {backward_plain};
#endif

/* Packs the weights of LANES output channels. It works in squares, so that reads and writes are whole lines
 * of the cache in any order of the weights. */
static void pack(const void *data, int64_t piece, void *scratch) {
    (void)scratch;
    const task *t = data;
    const convolution_call *c = t->call;
    const int64_t *strides = c->strides, width = c->columns.kernel, first = piece * LANES;
    const int64_t outputs = most(0, least(LANES, c->outputs - first));
    float square[LANES][LANES] = {{0}};
    for (int64_t tap = 0; tap < t->taps; tap++) {
        const float *from = c->weight + first * strides[0] + tap / width * strides[2] +
                            tap % width * strides[3];
        float *to = t->packed + (first / OUTPUTS * t->taps + tap) * c->channels * OUTPUTS +
                    first % OUTPUTS;
        for (int64_t begin = 0; begin < c->channels; begin += LANES) {
            int64_t channels = least(LANES, c->channels - begin);
            for (int64_t o = 0; o < outputs; o++) {
                const float *row = from + o * strides[0] + begin * strides[1];
                __builtin_prefetch(row + WEIGHTS_AHEAD * strides[1]);
                for (int64_t i = 0; i < channels; i++) square[o][i] = row[i * strides[1]];
            }
            for (int64_t i = 0; i < channels; i++)
                for (int64_t o = 0; o < LANES; o++) to[(begin + i) * OUTPUTS + o] = square[o][i];
        }
    }
}

/* Divides the work into strips that fit the cache, and into enough pieces for all threads to end at about
 * the same time: first by blocks of output channels, then by shorter strips. */
static void divide(task *t) {
    const convolution_call *c = t->call;
    int64_t line = most(1, c->columns.input * c->channels);
    int64_t fitting = most(0, MOST_LISTED / line - c->rows.kernel) / c->rows.stride + 1;
    int64_t wanted = most(1, 4 * (int64_t)c->means.threads);
    t->strip = least(c->rows.output, fitting);
    t->strips = parts(c->rows.output, t->strip);
    t->group = parts(t->blocks, least(t->blocks, parts(wanted, most(1, c->images * t->strips))));
    t->groups = parts(t->blocks, t->group);
    int64_t strips = least(t->strips * parts(wanted, most(1, c->images * t->strips * t->groups)),
                           parts(c->rows.output, c->rows.kernel));
    t->strip = parts(c->rows.output, most(strips, t->strips));
    t->strips = parts(c->rows.output, t->strip);
}

static int run_packing(task *t, float *packed) {
    const convolution_call *c = t->call;
    int64_t outputs = t->blocks * OUTPUTS;
    t->packed = packed;
    t->bias = packed + t->blocks * t->taps * c->channels * OUTPUTS;
    for (int64_t o = 0; o < outputs; o++) t->bias[o] = c->bias && o < c->outputs ? c->bias[o] : 0.0f;
    native_job job = {.work = pack, .task = t, .pieces = outputs / LANES};
    return native_run(&job, &c->means);
}

static int run_forward(task *t) {
    const convolution_call *c = t->call;
    divide(t);
    float *own = NULL;
    int failed = 0;
    if (!c->packed) {
        size_t room = (size_t)leanspike_convolution_room(c) * sizeof(float);
        if (!(own = aligned_alloc(LINE, room))) return -1;
        failed = run_packing(t, own);
    }
    t->packed = own ? own : (float *)c->packed; /* only read */
    t->bias = t->packed + t->blocks * t->taps * c->channels * OUTPUTS;
    native_job job = {.work = forward[c->means.instructions], .task = t};
    job.pieces = c->images * t->strips * t->groups;
    job.scratch = lay_out_events(t, NULL).bytes;
    if (!failed) failed = native_run(&job, &c->means);
    free(own);
    return failed;
}

/* Adds up dL/dweight of some input channels and one block of output channels: the chunks' sums, in order. */
static void collect(const void *data, int64_t piece, void *scratch) {
    (void)scratch;
    const task *t = data;
    const convolution_call *c = t->call;
    int64_t all = t->blocks * t->channel_blocks, size = t->taps * LEARNERS * OUTPUTS;
    float *sums = t->partial + piece * size;
    for (int64_t chunk = 1; chunk < t->chunks; chunk++) {
        const float *others = t->partial + (chunk * all + piece) * size;
        for (int64_t i = 0; i < size; i++) sums[i] += others[i];
    }
    int64_t first = piece % t->blocks * OUTPUTS, channel = piece / t->blocks * LEARNERS;
    int64_t outputs = least(OUTPUTS, c->outputs - first), width = c->columns.kernel;
    int64_t channels = least(LEARNERS, c->channels - channel);
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t tap = 0; tap < t->taps; tap++) {
            int64_t ky = tap / width, kx = tap % width, right = width - 1 - kx;
            const float *from = sums + (ky * LEARNERS * width + right) * OUTPUTS + o;
            float *to = c->grad_weight + (first + o) * c->strides[0] + channel * c->strides[1] +
                        ky * c->strides[2] + kx * c->strides[3];
            for (int64_t i = 0; i < channels; i++)
                to[i * c->strides[1]] = from[i * width * OUTPUTS];
        }
}

/* The division of the images depends on the sizes alone, so the bits of the sums do, too. */
static int run_backward(task *t) {
    const convolution_call *c = t->call;
    t->strip = least(c->rows.input, most(1, TILE / c->columns.input));
    t->channel_blocks = parts(c->channels, LEARNERS);
    int64_t per_chunk = t->channel_blocks * t->blocks, size = t->taps * LEARNERS * OUTPUTS;
    t->chunk = most(1, parts(c->images, parts(PIECES, per_chunk)));
    t->chunks = most(1, parts(c->images, t->chunk)); /* without images one chunk writes zeros */
    native_job job = {.work = backward[c->means.instructions], .task = t};
    job.pieces = t->chunks * per_chunk;
    job.scratch = lay_out_places(t, NULL).bytes;
    t->partial = aligned_alloc(LINE, (size_t)(job.pieces * size) * sizeof(float));
    if (!t->partial) return -1;
    int failed = native_run(&job, &c->means);
    job.work = collect;
    job.pieces = per_chunk;
    if (!failed) failed = native_run(&job, &c->means);
    free(t->partial);
    return failed;
}

static task describe(const convolution_call *call) {
    task t = {.call = call, .taps = call->rows.kernel * call->columns.kernel};
    t.blocks = parts(call->outputs, OUTPUTS);
    t.channel_blocks = parts(call->channels, CHANNELS);
    return t;
}

int leanspike_convolution(const convolution_call *call) {
    task t = describe(call);
    return call->weight ? run_forward(&t) : run_backward(&t);
}

int64_t leanspike_convolution_room(const convolution_call *call) {
    task t = describe(call);
    return t.blocks * OUTPUTS * (t.taps * call->channels + 1);
}

int leanspike_convolution_pack(const convolution_call *call, float *packed) {
    task t = describe(call);
    return run_packing(&t, packed);
}

/* Returns which of `runs` runs of a stretch is sampled. The choice has no period that rows, columns, channels
 * or images could share. */
static int64_t drawn(int64_t stretch, int64_t runs) {
    uint64_t mixed = (uint64_t)(stretch + 1) * 0x9e3779b97f4a7c15u;
    for (int round = 0; round < 2; round++) mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9u;
    return (int64_t)((mixed >> 32) * (uint64_t)runs >> 32);
}

double leanspike_density(const void *x, int64_t size, int32_t bf16) {
    enum { RUN = 64, MOST = 32, ENOUGH = 512 }; /* elements; runs of a stretch; runs in all */
    int64_t seen = 0, found = 0, runs = parts(size, RUN);
    int64_t stretch = most(1, least(MOST, runs / ENOUGH));
    for (int64_t first = 0; first < runs; first += stretch) {
        int64_t run = first + drawn(first, least(stretch, runs - first));
        int64_t start = run * RUN, end = least(start + RUN, size);
        int32_t here = 0; /* as wide as a float: vectors count faster */
        if (bf16)
            for (int64_t i = start; i < end; i++)
                here += (((const uint16_t *)x)[i] & 0x7fffu) != 0;
        else
            for (int64_t i = start; i < end; i++) here += ((const float *)x)[i] != 0.0f;
        seen += end - start;
        found += here;
    }
    return seen ? (double)found / (double)seen : 0.0;
}
