/* The leaves for one instruction set, SET, with vectors of BYTES. Sums of float32 have one order and are
 * never contracted (-ffp-contract=off), so that all sets give the same bits. */

#define LEAF static inline __attribute__((always_inline)) TARGET
#define vector NAME(vector)
#define mask NAME(mask)
#define bytes NAME(bytes)
#define shorts NAME(shorts)
#define entries NAME(entries)

typedef float vector __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef uint8_t bytes __attribute__((vector_size(BYTES), aligned(1), may_alias));
typedef uint16_t shorts __attribute__((vector_size(BYTES), aligned(2), may_alias));
typedef uint16_t entries __attribute__((vector_size(16), aligned(2), may_alias));
typedef int16_t NAME(half) __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
typedef uint8_t NAME(eight) __attribute__((vector_size(8), aligned(1), may_alias));
enum {
    NAME(lanes) = BYTES / sizeof(float),
    NAME(vectors) = LS_BLOCK / NAME(lanes),
    NAME(most) = LS_BLOCK / BYTES
};

/* ---- Neurons ---- */

/* Computes one step of the first `outputs` lanes of a block, in whole vectors; returns the spikes. */
LEAF uint64_t NAME(step)(const float *leak, const float *threshold, const float floor, const int32_t reset,
                         const vector current[NAME(vectors)], float *membrane, const int32_t outputs) {
    mask fired[NAME(vectors)];
    for (int32_t j = 0; j < outputs / NAME(lanes); j++) {
        vector *u = (vector *)membrane + j, v = ((const vector *)threshold)[j];
        vector m = ((const vector *)leak)[j] * *u + current[j];
        if (reset == LS_UNDECAYED) m -= (vector)((*u > v) & (mask)v);
        fired[j] = m > v;
        if (reset == LS_SOFT) m -= (vector)(fired[j] & (mask)v);
        if (reset == LS_HARD) m = (vector)(~fired[j] & (mask)m);
        if (floor > 0) {
            vector lowest = -floor * v;
            mask sunken = m < lowest;
            m = (vector)((sunken & (mask)lowest) | (~sunken & (mask)m));
        }
        *u = m;
    }
    return NAME(fired)(fired, outputs);
}

LEAF uint64_t NAME(step_as)(const float *leak, const float *threshold, float floor, int32_t reset,
                            const vector *current, float *membrane, const int32_t outputs) {
    if (floor > 0) return NAME(step)(leak, threshold, floor, reset, current, membrane, outputs);
    if (reset == LS_SOFT) return NAME(step)(leak, threshold, 0, LS_SOFT, current, membrane, outputs);
    if (reset == LS_HARD) return NAME(step)(leak, threshold, 0, LS_HARD, current, membrane, outputs);
    return NAME(step)(leak, threshold, 0, LS_UNDECAYED, current, membrane, outputs);
}

static TARGET uint64_t NAME(fire)(const ls_neuron *n, const float current[LS_BLOCK],
                                  float membrane[LS_BLOCK]) {
    return NAME(step_as)(n->leak, n->threshold, n->floor, n->reset, (const vector *)current, membrane, LS_BLOCK);
}

/* Computes pixel p, block b, at step t of a call. */
LEAF uint64_t NAME(step_at)(const ls_neurons *n, int64_t p, int64_t b, int64_t t, const vector *current,
                            const int32_t outputs) {
    const float *leak = n->leak + p * n->leak_step + b * LS_BLOCK;
    const float *threshold = n->threshold + p * n->threshold_step + b * LS_BLOCK;
    float *membrane = n->membrane + (p * n->blocks + b) * LS_BLOCK;
    if (n->begin && t == 0)
        for (int32_t j = 0; j < outputs / NAME(lanes); j++)
            ((vector *)membrane)[j] = n->initial * ((const vector *)threshold)[j];
    return NAME(step_as)(leak, threshold, n->floor, n->reset, current, membrane, outputs);
}

static TARGET void NAME(neurons)(const ls_neurons *n) {
    int64_t size = (int64_t)n->blocks * LS_BLOCK;
    for (int64_t p = n->first; p < n->after; p++)
        for (int64_t b = 0; b < n->blocks; b++) {
            int64_t at = p * size + b * LS_BLOCK;
            for (int64_t t = 0; t < n->steps; t++) {
                const vector *current = (const vector *)(n->current + t * n->current_step + at);
                n->out[t * n->out_step + p * n->blocks + b] = NAME(step_at)(n, p, b, t, current, LS_BLOCK);
            }
        }
}

/* ---- Sums of rows ---- */

/* Sums of rows of bytes, in int16. `low` holds the sums of the lower bytes plus 256 times those of the upper
 * bytes; `high` holds those of the upper bytes. Both are right modulo 2^16, so their difference is, too. */
typedef struct {
    shorts low[NAME(most)], high[NAME(most)];
} NAME(raw);

LEAF void NAME(widen)(NAME(raw) * sum, const bytes *row, const int32_t width) {
    for (int32_t v = 0; v < width; v++) {
        sum->low[v] += (shorts)row[v];
        sum->high[v] += (shorts)row[v] >> 8;
    }
}

/* Adds AT_ONCE rows of `width` vectors, `at_once` of them in bytes first. */
LEAF void NAME(add_some)(NAME(raw) * sum, const char *rows, const uint16_t *index, const int32_t width,
                         const int32_t at_once) {
    const int32_t scale = width * BYTES / ENTRY;
    for (int32_t i = 0; i < AT_ONCE; i += at_once) {
        bytes row[NAME(most)];
        for (int32_t v = 0; v < width; v++)
            row[v] = ((const bytes *)(rows + (size_t)index[i] * (size_t)scale))[v];
        for (int32_t j = 1; j < at_once; j++)
            for (int32_t v = 0; v < width; v++)
                row[v] += ((const bytes *)(rows + (size_t)index[i + j] * (size_t)scale))[v];
        NAME(widen)(sum, row, width);
    }
}

LEAF void NAME(add_rows)(NAME(raw) * sum, const char *rows, const uint16_t *index, int32_t n,
                         const int32_t width, const int32_t at_once) {
    for (int32_t i = 0; i < n; i += AT_ONCE) NAME(add_some)(sum, rows, index + i, width, at_once);
}

/* Separates the sums of `rows` rows, and subtracts the `bias` that each weight has. */
LEAF void NAME(take_apart)(const NAME(raw) * sum, int32_t rows, int32_t bias, int16_t to[LS_BLOCK],
                           const int32_t width) {
    uint16_t added = (uint16_t)((uint32_t)rows * (uint32_t)bias);
    for (int32_t v = 0; v < width; v++) {
        shorts lower = sum->low[v] - (sum->high[v] << 8) - added, upper = sum->high[v] - added;
        memcpy(to + v * BYTES, &lower, BYTES);
        memcpy(to + v * BYTES + BYTES / 2, &upper, BYTES);
    }
}

/* Adds more rows than int16 may hold, `limit` rows at a time. */
LEAF void NAME(add_wide)(int32_t to[LS_BLOCK], const packed_head *head, const char *rows,
                         const uint16_t *index, int32_t n, const int32_t width, const int32_t at_once) {
    for (int32_t i = 0; i < n; i += head->limit) {
        NAME(raw) sum = {0};
        int16_t some[LS_BLOCK];
        int32_t count = least(head->limit, n - i);
        NAME(add_rows)(&sum, rows, index + i, count, width, at_once);
        NAME(take_apart)(&sum, count, head->bias, some, width);
        for (int32_t k = 0; k < width * BYTES; k++) to[k] += some[k];
    }
}

/* Adds the rows below entry `bound` of a list that ends before `end`; returns where the next begin. */
LEAF const uint16_t *NAME(add_floats)(vector sum[NAME(vectors)], const char *rows, const uint16_t *index,
                                      const uint16_t *end, int32_t bound) {
    for (; index < end && *index < bound; index++) {
        const vector *row = (const vector *)(rows + (size_t)*index * (LS_BLOCK * sizeof(float) / ENTRY));
        for (int32_t j = 0; j < NAME(vectors); j++) sum[j] += row[j];
    }
    return index;
}

/* ---- Lists ---- */

/* Lists the channels that are set in `count` bytes, times ENTRY, from `base` on. */
LEAF int32_t NAME(list_bytes)(const uint8_t *from, int32_t count, uint16_t base, uint16_t *to) {
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++, base += 8 * ENTRY) {
        NAME(eight) some;
        memcpy(&some, set_bits + from[i], sizeof some);
        *(entries *)(to + found) = __builtin_convertvector(some, entries) + base;
        found += counts[from[i]];
    }
    return found;
}

/* Lists row `y` of a band: entry x * group + channel for each event of pixel x. */
LEAF int32_t NAME(list_row)(const uint64_t *bits, int32_t width, int32_t words, int32_t group,
                            int32_t count, int32_t *first, uint16_t *index, int32_t found) {
    for (int32_t x = 0; x < width; x++, bits += words) {
        first[x] = found;
        found += NAME(list_bytes)((const uint8_t *)bits, count, (uint16_t)(x * group * ENTRY), index + found);
    }
    first[width] = found;
    return found;
}

static TARGET void NAME(list_band)(const ls_events *e, const lists *l, int32_t top, int32_t bottom) {
    int32_t words = whole(e->channels, 64) / 64, pitch = e->width + 1;
    for (int32_t t = 0; t < e->neurons.steps; t++)
        for (int32_t g = 0; g < l->groups; g++) {
            int32_t list = t * l->groups + g, found = 0;
            int32_t count = (least(l->group, e->channels - g * l->group) + 7) / 8;
            for (int32_t y = top; y < bottom; y++) {
                const uint64_t *bits = e->bits + t * e->bits_step + (int64_t)y * e->width * words;
                found = NAME(list_row)(bits + g * l->group / 64, e->width, words, l->group, count,
                                       l->first + ((int64_t)list * l->rows + y - top) * pitch,
                                       l->index + list * l->listed, found);
            }
        }
}

/* Merges the lists of an output pixel's rows, to each of which a number is added: entry tap * group +
 * channel. Returns the length of the list; AT_ONCE entries of a row of zeros follow it. */
LEAF int32_t NAME(merge)(const ls_events *e, const lists *l, const uint16_t *index, const int32_t *first,
                         int32_t top, int32_t y, int32_t x, uint16_t *to) {
    int32_t left = x * e->stride[1] - e->padding[1], up = y * e->stride[0] - e->padding[0], found = 0;
    int32_t begin = most(left, 0), end = least(left + e->kernel[1], e->width);
    int32_t last = least(up + e->kernel[0], e->height);
    for (int32_t row = most(up, 0); row < last && begin < end; row++) {
        const int32_t *f = first + (int64_t)(row - top) * (e->width + 1);
        int32_t n = f[end] - f[begin], i = 0;
        const uint16_t *from = index + f[begin];
        uint16_t more = (uint16_t)(((row - up) * e->kernel[1] - left) * l->group * ENTRY);
        do { /* nearly always done once */
            for (int32_t j = 0; j < 32; j += BYTES / 2)
                *(shorts *)(to + found + i + j) = *(const shorts *)(from + i + j) + more;
            i += 32;
        } while (i < n);
        found += n;
    }
    entries zeros = (entries){0} + (uint16_t)(l->taps * l->group * ENTRY);
    *(entries *)(to + found) = zeros;
    return found;
}

/* Merges all lists of a tile of pixels. */
static TARGET void NAME(merge_tile)(ls_events *e, const lists *l, int32_t top, int32_t p, int32_t after) {
    int32_t steps = e->neurons.steps, cells = (after - p) * steps, at = 0, *begin = l->begin;
    for (int32_t i = 0; i < cells; i++) l->total[i] = 0;
    for (int32_t g = 0; g < l->groups; g++)
        for (int32_t q = p, i = 0; q < after; q++)
            for (int32_t t = 0; t < steps; t++, i++, begin += 2) {
                int64_t list = t * l->groups + g;
                int32_t n = NAME(merge)(e, l, l->index + list * l->listed,
                                        l->first + list * l->rows * (e->width + 1), top,
                                        q / e->out_width, q % e->out_width, l->merged + at);
                e->accumulated += (int64_t)n * e->outputs;
                if (e->type != LS_F32) n = whole(n, AT_ONCE);
                begin[0] = at, begin[1] = n;
                l->total[i] += n;
                at += n;
            }
}

/* ---- Layers ---- */

/* Computes current = (add ? current : 0) + shift + scale * sums and the neurons, at one pixel and step. */
LEAF void NAME(finish)(const ls_events *e, vector sum[NAME(vectors)], int64_t p, int64_t b, int64_t t,
                       const int32_t outputs) {
    const ls_neurons *n = &e->neurons;
    int64_t at = (p * n->blocks + b) * LS_BLOCK;
    float *current = (float *)n->current + t * n->current_step + at; /* for layers whose current is kept */
    const vector *scale = (const vector *)(e->scale + t * e->scale_step + b * LS_BLOCK);
    const vector *shift = (const vector *)(e->shift + t * e->shift_step + b * LS_BLOCK);
    for (int32_t j = 0; j < outputs / NAME(lanes); j++) {
        vector x = scale[j] * sum[j];
        if (e->add && e->shift) x = (((const vector *)current)[j] + shift[j]) + x;
        else if (e->add) x = ((const vector *)current)[j] + x;
        else if (e->shift) x = shift[j] + x;
        sum[j] = x;
    }
    if (e->fire) {
        n->out[t * n->out_step + p * n->blocks + b] = NAME(step_at)(n, p, b, t, sum, outputs);
    } else {
        for (int32_t j = 0; j < outputs / NAME(lanes); j++) ((vector *)current)[j] = sum[j];
    }
}

/* Computes a tile of pixels and a block of outputs, all groups and steps, in integers. */
LEAF void NAME(tile)(const ls_events *e, const lists *l, int32_t p, int32_t after, int32_t b,
                     const int32_t width, const int32_t at_once) {
    const packed_head *head = e->packed;
    const int32_t outputs = width * BYTES < LS_BLOCK ? width * BYTES : LS_BLOCK, *begin = l->begin;
    int64_t rows = (int64_t)(l->taps * l->group + 1) * width * BYTES;
    const char *at = (const char *)(head + 1) + b * l->groups * rows;
    int32_t steps = e->neurons.steps;
    for (int32_t g = 0; g < l->groups; g++, at += rows)
        for (int32_t q = p, i = 0; q < after; q++)
            for (int32_t t = 0; t < steps; t++, i++, begin += 2) {
                uint16_t *kept = l->sums + (int64_t)i * LS_BLOCK;
                int32_t *wide = l->wide + (int64_t)i * LS_BLOCK;
                const uint16_t *index = l->merged + begin[0];
                vector sum[NAME(vectors)];
                if (l->total[i] > head->limit) {
                    if (g == 0) memset(wide, 0, LS_BLOCK * sizeof *wide);
                    NAME(add_wide)(wide, head, at, index, begin[1], width, at_once);
                    if (g < l->groups - 1) continue;
                    for (int32_t j = 0; j < outputs / NAME(lanes); j++)
                        sum[j] = __builtin_convertvector(((const mask *)wide)[j], vector);
                } else {
                    NAME(raw) raw = {0};
                    int16_t narrow[LS_BLOCK];
                    for (int32_t v = 0; v < width && g > 0; v++) {
                        raw.low[v] = ((const shorts *)kept)[2 * v];
                        raw.high[v] = ((const shorts *)kept)[2 * v + 1];
                    }
                    NAME(add_rows)(&raw, at, index, begin[1], width, at_once);
                    for (int32_t v = 0; v < width && g < l->groups - 1; v++) {
                        ((shorts *)kept)[2 * v] = raw.low[v];
                        ((shorts *)kept)[2 * v + 1] = raw.high[v];
                    }
                    if (g < l->groups - 1) continue;
                    NAME(take_apart)(&raw, l->total[i], head->bias, narrow, width);
                    for (int32_t j = 0; j < outputs / NAME(lanes); j++)
                        sum[j] = __builtin_convertvector(((const NAME(half) *)narrow)[j], vector);
                }
                NAME(finish)(e, sum, q, b, t, outputs);
            }
}

/* Computes the same in float32. All pixels add the same few rows, which stay in the cache, before the next
 * rows. Lists ascend, so each sum is added up in the order of its list. */
static TARGET void NAME(tile_f32)(const ls_events *e, const lists *l, int32_t p, int32_t after, int32_t b) {
    int32_t all = l->taps * l->group + 1, steps = e->neurons.steps;
    int64_t size = (int64_t)all * LS_BLOCK * (int64_t)sizeof(float);
    const char *at = (const char *)e->packed + sizeof(packed_head) + b * size;
    for (int32_t row = 0; row < all; row += FLOAT_ROWS) {
        int32_t is_last = row + FLOAT_ROWS >= all;
        for (int32_t q = p, i = 0; q < after; q++)
            for (int32_t t = 0; t < steps; t++, i++) {
                int32_t *begin = l->begin + 2 * i;
                const uint16_t *end = l->merged + begin[0] + begin[1];
                const uint16_t *from = l->merged + (row ? l->total[i] : begin[0]);
                float *kept = (float *)l->wide + (int64_t)i * LS_BLOCK;
                vector sum[NAME(vectors)] = {{0}};
                if (row) memcpy(sum, kept, sizeof sum);
                from = NAME(add_floats)(sum, at, from, end, (row + FLOAT_ROWS) * ENTRY);
                l->total[i] = (int32_t)(from - l->merged); /* the next rows begin here */
                if (is_last) NAME(finish)(e, sum, q, b, t, LS_BLOCK);
                else memcpy(kept, sum, sizeof sum);
            }
    }
}

#define TILE_AS(width, at_once)                                                                     \
    static TARGET void NAME(tile_##width##at_once)(const ls_events *e, const lists *l, int32_t p,   \
                                                   int32_t after, int32_t b) {                      \
        NAME(tile)(e, l, p, after, b, width ? NAME(most) : (NAME(most) + 1) / 2, at_once);          \
    }
TILE_AS(0, 1) TILE_AS(0, 2) TILE_AS(0, 4) TILE_AS(1, 1) TILE_AS(1, 2) TILE_AS(1, 4)
#undef TILE_AS

static TARGET void NAME(events)(ls_events *e) {
    typedef void tile_fn(const ls_events *, const lists *, int32_t, int32_t, int32_t);
    static tile_fn *const tiles[2][3] = {{NAME(tile_01), NAME(tile_02), NAME(tile_04)},
                                         {NAME(tile_11), NAME(tile_12), NAME(tile_14)}};
    const ls_rows rows = {.type = e->type, .outputs = e->outputs};
    int32_t at_once = ((const packed_head *)e->packed)->at_once;
    tile_fn *tile = tiles[row_bytes(&rows, BYTES) == LS_BLOCK][at_once / 2];
    if (e->type == LS_F32) tile = NAME(tile_f32);
    lists l = lay_out(e);
    e->accumulated = 0;
    for (int32_t y = e->top; y < e->bottom; y += l.band) {
        int32_t end = least(y + l.band, e->bottom);
        int32_t top = most(0, y * e->stride[0] - e->padding[0]);
        int32_t bottom = least(e->height, (end - 1) * e->stride[0] - e->padding[0] + e->kernel[0]);
        NAME(list_band)(e, &l, top, bottom);
        for (int32_t p = y * e->out_width; p < end * e->out_width; p += l.pixels) {
            int32_t after = least(p + l.pixels, end * e->out_width);
            NAME(merge_tile)(e, &l, top, p, after);
            for (int32_t b = 0; b < e->neurons.blocks; b++) tile(e, &l, p, after, b);
        }
    }
}

static TARGET void NAME(pack)(const ls_rows *rows, void *packed) { pack_rows(rows, packed, BYTES); }
static size_t NAME(pack_room)(const ls_rows *rows) { return room_of(rows, BYTES); }

/* ---- Analog inputs ---- */

/* Computes the sums of one pixel. Rows under the kernel have the same order in image and weights. */
LEAF void NAME(multiply_pixel)(const ls_dense *d, const float *weights, int32_t y, int32_t x,
                               vector *sum, const int32_t vectors) {
    int32_t left = x * d->stride[1] - d->padding[1], up = y * d->stride[0] - d->padding[0];
    int32_t begin = most(left, 0), end = least(left + d->kernel[1], d->width);
    int32_t last = least(up + d->kernel[0], d->height), group = whole(d->channels, 8);
    for (int32_t row = most(up, 0); row < last; row++)
        for (int32_t column = begin; column < end; column++) {
            const float *from = d->image + ((int64_t)row * d->width + column) * d->channels;
            int64_t tap = (row - up) * d->kernel[1] + column - left;
            const vector *to = (const vector *)(weights + tap * group * LS_BLOCK);
            for (int32_t c = 0; c < d->channels; c++)
                for (int32_t j = 0; j < vectors; j++) sum[j] += from[c] * to[c * NAME(vectors) + j];
        }
}

LEAF void NAME(dense_as)(const ls_dense *d, int32_t b, const int32_t vectors) {
    int64_t rows = (int64_t)(d->kernel[0] * d->kernel[1] * whole(d->channels, 8) + 1) * LS_BLOCK;
    const float *weights = (const float *)((const packed_head *)d->packed + 1) + b * rows;
    const vector *scale = (const vector *)(d->scale + b * LS_BLOCK);
    const vector *shift = (const vector *)(d->shift + b * LS_BLOCK);
    for (int32_t y = d->top; y < d->bottom; y++)
        for (int32_t x = 0; x < d->out_width; x++) {
            vector sum[NAME(vectors)] = {{0}};
            NAME(multiply_pixel)(d, weights, y, x, sum, vectors);
            int64_t pixel = (int64_t)y * d->out_width + x;
            vector *current = (vector *)(d->current + (pixel * d->blocks + b) * LS_BLOCK);
            for (int32_t j = 0; j < vectors; j++) {
                vector more = sum[j];
                if (d->scale) more = scale[j] * sum[j];
                if (d->add && d->shift) current[j] = (current[j] + shift[j]) + more;
                else if (d->add) current[j] = current[j] + more;
                else if (d->shift) current[j] = shift[j] + more;
                else current[j] = more;
            }
            for (int32_t j = vectors; j < NAME(vectors) && !d->add; j++) current[j] = (vector){0};
        }
}

static TARGET void NAME(dense)(const ls_dense *d) {
    for (int32_t b = 0; b < d->blocks; b++)
        if (d->outputs - b * LS_BLOCK <= 16) NAME(dense_as)(d, b, NAME(vectors) / 4);
        else if (d->outputs - b * LS_BLOCK <= 32) NAME(dense_as)(d, b, NAME(vectors) / 2);
        else NAME(dense_as)(d, b, NAME(vectors));
}

/* ---- Leaves for one pixel at a time, for layers that the leaves above refuse ---- */

static TARGET int32_t NAME(list)(const uint64_t *bits, int32_t pixels, int32_t words, int32_t *first,
                                 uint16_t *index) {
    int32_t found = first[0];
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t w = 0; w < words; w++)
            for (uint64_t rest = bits[(int64_t)p * words + w]; rest; rest &= rest - 1)
                index[found++] = (uint16_t)(w * 64 + __builtin_ctzll(rest));
        first[p + 1] = found;
    }
    return found;
}

static TARGET void NAME(add_i8)(int32_t sums[LS_BLOCK], const ls_tap *taps, int32_t n, int32_t group) {
    (void)group;
    int16_t some[LS_BLOCK] = {0};
    int32_t count = 0;
    for (int32_t t = 0; t < n; t++)
        for (int32_t i = 0; i < taps[t].count; i++) {
            const int8_t *row = (const int8_t *)taps[t].rows + (size_t)taps[t].index[i] * (size_t)taps[t].stride;
            for (int32_t k = 0; k < LS_BLOCK; k++) some[k] = (int16_t)(some[k] + row[k]);
            if (++count < 256) continue;
            for (int32_t k = 0; k < LS_BLOCK; k++) sums[k] += some[k], some[k] = 0;
            count = 0;
        }
    for (int32_t k = 0; k < LS_BLOCK; k++) sums[k] += some[k];
}

static TARGET void NAME(add_f32)(float sums[LS_BLOCK], const ls_tap *taps, int32_t n) {
    vector sum[NAME(vectors)];
    memcpy(sum, sums, sizeof sum);
    for (int32_t t = 0; t < n; t++)
        for (int32_t i = 0; i < taps[t].count; i++) {
            const char *rows = taps[t].rows;
            const vector *row = (const vector *)(rows + (size_t)taps[t].index[i] * (size_t)taps[t].stride);
            for (int32_t j = 0; j < NAME(vectors); j++) sum[j] += row[j];
        }
    memcpy(sums, sum, sizeof sum);
}

static TARGET void NAME(multiply_f32)(float sums[LS_BLOCK], const float *x, const float *rows, int32_t n) {
    vector sum[NAME(vectors)];
    memcpy(sum, sums, sizeof sum);
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < NAME(vectors); j++)
            sum[j] += x[i] * ((const vector *)(rows + (int64_t)i * LS_BLOCK))[j];
    memcpy(sums, sum, sizeof sum);
}

static TARGET void NAME(scale_i32)(float current[LS_BLOCK], const int32_t sums[LS_BLOCK], const float *scale) {
    for (int32_t k = 0; k < LS_BLOCK; k++) current[k] += scale[k] * (float)sums[k];
}

static TARGET void NAME(scale_f32)(float current[LS_BLOCK], const float sums[LS_BLOCK], const float *scale) {
    for (int32_t k = 0; k < LS_BLOCK; k++) current[k] += scale[k] * sums[k];
}

static const ls_kernels NAME(kernels) = {
    .list = NAME(list),
    .add_i8 = NAME(add_i8),
    .add_f32 = NAME(add_f32),
    .multiply_f32 = NAME(multiply_f32),
    .scale_i32 = NAME(scale_i32),
    .scale_f32 = NAME(scale_f32),
    .fire = NAME(fire),
    .pack_room = NAME(pack_room),
    .pack = NAME(pack),
    .events_room = events_room,
    .events = NAME(events),
    .dense = NAME(dense),
    .neurons = NAME(neurons),
};

#undef LEAF
#undef vector
#undef mask
#undef bytes
#undef shorts
#undef entries
