/* The leaves of the engine for the instruction sets of this processor: how weights and lists lie. */
#include "instructions.h"
#include "kernels.h"

#include <string.h>

#ifdef HAVE_X86
#include <immintrin.h>
#endif

enum {
    LINE = 64,            /* bytes of a line of the cache */
    ENTRY = 8,            /* lists hold ENTRY * i for row i: addresses multiply by 8 for free */
    MOST_ROWS = 8190,     /* rows of a group of channels, so that ENTRY * i fits in 16 bits */
    GROUP_ROWS = 9 * 128, /* rows of integers: 72 KiB, which stay in the cache for all pixels of a tile */
    FLOAT_ROWS = 1024,    /* rows of float32: 256 KiB, likewise */
    MOST_TAPS = 127,
    AT_ONCE = 8,          /* rows of integers added between two checks for the end of a list */
    SPARE = 64,           /* entries that may be written behind the end of a list */
    TILE = 320,           /* pixels times steps whose sums stay in the cache */
    MOST_LISTED = 1 << 18 /* entries that the input rows of a band may have */
};

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t whole(int32_t n, int32_t of) { return (n + of - 1) / of * of; }

/* The channels that are set in a byte: their numbers times ENTRY, one byte each, and their count. */
#define BELOW(b, i) (((b) >> 0 & 1) * ((i) > 0) + ((b) >> 1 & 1) * ((i) > 1) + ((b) >> 2 & 1) * ((i) > 2) + \
                     ((b) >> 3 & 1) * ((i) > 3) + ((b) >> 4 & 1) * ((i) > 4) + ((b) >> 5 & 1) * ((i) > 5) + \
                     ((b) >> 6 & 1) * ((i) > 6) + ((b) >> 7 & 1) * ((i) > 7))
#define AT(b, i) ((uint64_t)((b) >> (i) & 1 ? ENTRY * (i) : 0) << (BELOW(b, i) * 8 & 63))
#define SET_BITS(b) (AT(b, 0) | AT(b, 1) | AT(b, 2) | AT(b, 3) | AT(b, 4) | AT(b, 5) | AT(b, 6) | AT(b, 7))
#define COUNT(b) BELOW(b, 8)
#define FOUR(f, b) f(b), f((b) + 1), f((b) + 2), f((b) + 3)
#define SIXTEEN(f, b) FOUR(f, b), FOUR(f, (b) + 4), FOUR(f, (b) + 8), FOUR(f, (b) + 12)
#define SIXTYFOUR(f, b) SIXTEEN(f, b), SIXTEEN(f, (b) + 16), SIXTEEN(f, (b) + 32), SIXTEEN(f, (b) + 48)
#define ALL(f) SIXTYFOUR(f, 0), SIXTYFOUR(f, 64), SIXTYFOUR(f, 128), SIXTYFOUR(f, 192)
static const uint64_t set_bits[256] = {ALL(SET_BITS)};
static const uint8_t counts[256] = {ALL(COUNT)};

/* The head of packed weights. [blocks][groups][taps * group + 1] rows follow; the last row of each group is 0.
 * Integers are stored with `bias` added, so that none is negative. */
typedef struct {
    int32_t bias;    /* 32, 64 or 128 */
    int32_t at_once; /* rows that can be added in bytes: 4, 2 or 1 */
    int32_t limit;   /* rows that can be added in int16 */
    int32_t spare[13];
} packed_head;

/* Returns how many channels share a list: a multiple of 8, or of 64 if there are several groups. */
static int32_t group_of(int32_t channels, int32_t taps, int32_t type) {
    int32_t all = whole(channels, 8);
    if (taps * (int64_t)all <= (type == LS_F32 ? MOST_ROWS : GROUP_ROWS)) return all;
    return most(64, GROUP_ROWS / taps / 64 * 64);
}

/* Sums of float32 have the same order everywhere, so their lists are never divided. */
static int fits(int32_t channels, int32_t taps, int32_t type) {
    return taps <= MOST_TAPS && (type != LS_F32 || taps * (int64_t)whole(channels, 8) <= MOST_ROWS);
}

static int32_t taps_of(const ls_events *e) { return e->kernel[0] * e->kernel[1]; }

/* The lists of a band of input rows, and of a tile of output pixels. */
typedef struct {
    int32_t group, groups, taps;
    int32_t band, rows;  /* output rows, and the input rows that they read */
    int32_t pixels;      /* pixels of a tile */
    int64_t listed;      /* entries for each step and group of a band */
    uint16_t *index;     /* [steps][groups][listed] */
    int32_t *first;      /* [steps][groups][rows][width + 1] */
    uint16_t *merged;    /* [groups][pixels][steps]: lists one after another */
    int32_t *begin;      /* [groups][pixels][steps][2]: place in `merged`, and length */
    int32_t *total;      /* [pixels][steps] */
    uint16_t *sums;      /* [pixels][steps][LS_BLOCK]: between two groups */
    int32_t *wide;       /* likewise, for sums that int16 may not hold */
    size_t bytes;
} lists;

static void *take(uintptr_t *at, int64_t elements, size_t size) {
    uintptr_t taken = *at;
    *at += ((size_t)elements * size + LINE - 1) / LINE * LINE;
    return (void *)taken;
}

static lists lay_out(const ls_events *e) {
    lists l = {.taps = taps_of(e)};
    int32_t steps = e->neurons.steps, words = whole(e->channels, 64);
    l.group = group_of(e->channels, l.taps, e->type);
    l.groups = (e->channels + l.group - 1) / l.group;
    int32_t fitting = most(1, MOST_LISTED / most(1, e->width * words) / steps);
    l.band = least(e->bottom - e->top, most(0, fitting - e->kernel[0]) / e->stride[0] + 1);
    l.rows = most(0, least(e->height, (l.band - 1) * e->stride[0] + e->kernel[0]));
    int32_t again = l.groups > 1 || (e->type == LS_F32 && l.taps * l.group >= FLOAT_ROWS);
    l.pixels = most(1, least((e->bottom - e->top) * e->out_width, (again ? TILE : TILE / 4) / steps));
    l.listed = (int64_t)l.rows * e->width * l.group + SPARE;
    int64_t cells = (int64_t)l.pixels * steps, all = cells * l.groups;
    uintptr_t at = (uintptr_t)e->scratch;
    l.index = take(&at, steps * l.groups * l.listed, sizeof *l.index);
    l.first = take(&at, (int64_t)steps * l.groups * l.rows * (e->width + 1), sizeof *l.first);
    l.merged = take(&at, all * (l.taps * l.group + AT_ONCE) + SPARE, sizeof *l.merged);
    l.begin = take(&at, all * 2, sizeof *l.begin);
    l.total = take(&at, cells, sizeof *l.total);
    l.sums = take(&at, l.groups > 1 ? cells * LS_BLOCK : 0, sizeof *l.sums);
    l.wide = take(&at, cells * LS_BLOCK, sizeof *l.wide);
    l.bytes = at - (uintptr_t)e->scratch;
    return l;
}

static size_t events_room(const ls_events *e) {
    return fits(e->channels, taps_of(e), e->type) ? lay_out(e).bytes : 0;
}

static int32_t row_bytes(const ls_rows *r, int32_t bytes) {
    if (r->type == LS_F32) return LS_BLOCK * (int32_t)sizeof(float);
    return r->outputs <= 32 && bytes <= 32 ? 32 : LS_BLOCK;
}

static size_t room_of(const ls_rows *r, int32_t bytes) {
    if (!fits(r->channels, r->taps, r->type)) return 0;
    int32_t group = group_of(r->channels, r->taps, r->type);
    int64_t blocks = (r->outputs + LS_BLOCK - 1) / LS_BLOCK, groups = (r->channels + group - 1) / group;
    return sizeof(packed_head) +
           (size_t)(blocks * groups * (r->taps * group + 1)) * (size_t)row_bytes(r, bytes);
}

/* Returns the number types that sums need, by the largest weight, and the largest sums of one sign. */
static packed_head look_at(const ls_rows *r) {
    const int8_t *w = r->weights;
    int64_t rows = (int64_t)r->taps * r->channels, largest = 1, bound = 0;
    for (int32_t o = 0; o < r->outputs; o++) {
        int64_t up = 0, down = 0;
        for (int64_t i = 0; i < rows; i++) {
            int32_t weight = w[i * r->outputs + o];
            if (weight > 0) up += weight;
            else down -= weight;
            if (weight > largest || -weight > largest) largest = weight < 0 ? -weight : weight;
        }
        if (up > bound) bound = up;
        if (down > bound) bound = down;
    }
    packed_head head = {.bias = 128, .at_once = 1, .limit = INT32_MAX};
    if (largest < 64) head.bias = 64, head.at_once = 2;
    if (largest < 32) head.bias = 32, head.at_once = 4;
    if (bound > INT16_MAX) head.limit = (int32_t)(INT16_MAX / largest) / AT_ONCE * AT_ONCE;
    return head;
}

/* Returns the place of output k in a row of bytes. Vectors are read as int16: their lower bytes are the first
 * half of the vector's outputs, and their upper bytes the second. */
static int32_t place_of(int32_t k, int32_t bytes) {
    int32_t within = k % bytes, half = bytes / 2;
    return k - within + within % half * 2 + within / half;
}

static void pack_rows(const ls_rows *r, void *packed, int32_t bytes) {
    int32_t group = group_of(r->channels, r->taps, r->type), size = row_bytes(r, bytes);
    int32_t blocks = (r->outputs + LS_BLOCK - 1) / LS_BLOCK, groups = (r->channels + group - 1) / group;
    packed_head head = {0};
    if (r->type != LS_F32) head = look_at(r);
    memcpy(packed, &head, sizeof head);
    char *to = (char *)packed + sizeof head;
    for (int32_t b = 0; b < blocks; b++)
        for (int32_t g = 0; g < groups; g++) {
            int32_t outputs = least(LS_BLOCK, r->outputs - b * LS_BLOCK);
            memset(to, head.bias, (size_t)(r->taps * group + 1) * (size_t)size);
            for (int32_t i = 0; i < r->taps * group; i++) {
                int32_t channel = g * group + i % group;
                int64_t from = ((int64_t)(i / group) * r->channels + channel) * r->outputs + b * LS_BLOCK;
                if (channel >= r->channels) continue;
                if (r->type == LS_F32)
                    memcpy(to + (size_t)i * (size_t)size, (const float *)r->weights + from,
                           (size_t)outputs * sizeof(float));
                else
                    for (int32_t k = 0; k < outputs; k++)
                        to[(size_t)i * (size_t)size + (size_t)place_of(k, bytes)] =
                            (char)(((const int8_t *)r->weights)[from + k] + head.bias);
            }
            to += (size_t)(r->taps * group + 1) * (size_t)size;
        }
}

/* Returns which of the first `lanes` of a block fired. Their bits are all 1, those of others 0. */

static inline uint64_t fired_plain(const void *fired, const int32_t lanes) {
    typedef uint32_t four __attribute__((vector_size(16), may_alias));
    uint64_t bits = 0;
    for (int32_t half = 0; half < lanes; half += 32) {
        const four *f = (const four *)fired + half / 4;
        four all = {0};
        for (int32_t i = 0; i < 8; i++) all |= f[i] & ((four){1, 2, 4, 8} << 4 * i);
        bits |= (uint64_t)(all[0] | all[1] | all[2] | all[3]) << half;
    }
    return bits;
}

#ifdef HAVE_X86
static inline TARGET_avx2 uint64_t fired_avx2(const void *fired, const int32_t lanes) {
    const __m256i *f = fired, order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    uint64_t bits = 0;
    for (int32_t half = 0; half < lanes; half += 32, f += 4) {
        __m256i low = _mm256_packs_epi32(f[0], f[1]), high = _mm256_packs_epi32(f[2], f[3]);
        __m256i all = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        bits |= (uint64_t)(uint32_t)_mm256_movemask_epi8(all) << half;
    }
    return bits;
}

static inline TARGET_avx512 uint64_t fired_avx512(const void *fired, const int32_t lanes) {
    uint64_t bits = 0;
    for (int32_t k = 0; k < lanes; k += 16)
        bits |= (uint64_t)_mm512_movepi32_mask(_mm512_loadu_si512((const int32_t *)fired + k)) << k;
    return bits;
}
#endif

#define SET plain
#include "kernels_block.h"
#undef SET

#ifdef HAVE_X86
#define SET avx2
#include "kernels_block.h"
#undef SET
#define SET avx512
#include "kernels_block.h"
#undef SET
#endif

int32_t ls_best_instructions(void) { return best_instructions(); }

const ls_kernels *ls_kernels_of(int32_t instructions) {
    if (instructions < LS_PLAIN || instructions > ls_best_instructions()) return NULL;
#ifdef HAVE_X86
    if (instructions == LS_AVX512) return &kernels_avx512;
    if (instructions == LS_AVX2) return &kernels_avx2;
#endif
    return &kernels_plain;
}
