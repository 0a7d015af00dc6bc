/* Neighbouring neurons through all timesteps.
 *
 * Included once per instruction set, SET, with vectors of BYTES. A group of VECTORS goes through all
 * steps at once, so that its state stays in registers. Membranes must round as in the reference, hence
 * no contraction (-ffp-contract=off) and no -ffast-math. */

#define ROW static inline __attribute__((always_inline)) TARGET
#define vector NAME(vector)
#define mask NAME(mask)
#define bits NAME(bits)

typedef float vector __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(BYTES)));
typedef uint32_t bits __attribute__((vector_size(BYTES)));
enum { NAME(lanes) = BYTES / sizeof(float), NAME(group) = VECTORS * NAME(lanes) };

ROW vector NAME(all)(float value) { return value - (vector){0}; }

ROW vector NAME(select)(mask where, vector a, vector b) {
    return (vector)((where & (mask)a) | (~where & (mask)b));
}

ROW vector NAME(only)(mask where, vector a) { return (vector)(where & (mask)a); }

ROW vector NAME(size)(vector a) { return (vector)((bits)a & 0x7fffffffu); }

/* Vector j of the group at `from`. In bfloat16 each two hold the even and the odd elements of what one
 * reads: all that is done is done to each element by itself, so neither widening nor narrowing moves
 * any. */
ROW vector NAME(read)(const void *from, int j, const int bf16) {
    bits read;
    memcpy(&read, (const char *)from + (bf16 ? j / 2 : j) * BYTES, sizeof read);
    if (!bf16) return (vector)read;
    return (vector)(j % 2 == 0 ? read << 16 : read & 0xffff0000u);
}

ROW void NAME(store)(void *to, vector value, int passing) {
    if (passing) STREAM((float *)to, value);
    else memcpy(to, &value, sizeof value);
}

ROW bits NAME(rounded)(vector value) { return (bits)value + (((bits)value >> 16 & 1u) + 0x7fffu); }

/* `exact`: bfloat16 holds the values. Else they are rounded to nearest even, for which every NaN that
 * can occur must have zeros in its lower half: those of bfloat16, the processor's own, and prepare()'s. */
ROW void NAME(write)(void *to, const vector *group, int passing, const int exact, const int bf16) {
    if (!bf16)
        for (int j = 0; j < VECTORS; j++) NAME(store)((char *)to + j * BYTES, group[j], passing);
    else
        for (int j = 0; j < VECTORS; j += 2) {
            bits even = exact ? (bits)group[j] : NAME(rounded)(group[j]);
            bits odd = exact ? (bits)group[j + 1] : NAME(rounded)(group[j + 1]);
            bits both = even >> 16 | (odd & 0xffff0000u);
            NAME(store)((char *)to + j / 2 * BYTES, (vector)both, passing);
        }
}

/* Vector j of the group's membranes, which are float32 beside bfloat16 as well. */

ROW vector NAME(read_membranes)(const float *from, int j, const int bf16) {
    if (!bf16) return NAME(read)(from, j, 0);
    float read[NAME(lanes)];
    from += j / 2 * 2 * NAME(lanes) + j % 2;
    for (int i = 0; i < NAME(lanes); i++) read[i] = from[2 * i];
    return NAME(read)(read, 0, 0);
}

ROW void NAME(write_membranes)(float *to, int j, vector u, const int bf16) {
    if (!bf16) {
        NAME(store)(to + j * NAME(lanes), u, 0);
        return;
    }
    float written[NAME(lanes)];
    NAME(store)(written, u, 0);
    to += j / 2 * 2 * NAME(lanes) + j % 2;
    for (int i = 0; i < NAME(lanes); i++) to[2 * i] = written[i];
}

/* u <- leak * u + x;  fired = u / threshold - 1 > 0;  reset. An undecayed reset is the next step's, which
 * sees again whether u fired.
 *
 * A negative threshold v is computed as -v with inputs and membranes of the other sign. In float32
 * u / v - 1 > 0 exactly where u > v: a larger u is larger by one unit in the last place of v or more,
 * so that u / v rounds to more than 1, and 1 is then subtracted exactly. Infinities and NaN agree as
 * well. */

ROW vector NAME(less_threshold)(const neuron k, vector m, mask fired) {
    return NAME(select)(fired, m - k.threshold, m - k.quiet);
}

ROW vector NAME(membrane)(const neuron k, vector u, const void *x, int j, const int reset,
                          const int bf16) {
    vector m = k.leak * u + k.sign * NAME(read)(x, j, bf16);
    return reset == RESET_UNDECAYED ? NAME(less_threshold)(k, m, u > k.threshold) : m;
}

ROW vector NAME(reset)(const neuron k, vector m, mask fired, const int reset) {
    if (reset == RESET_HARD) return NAME(only)(~fired, m);
    return reset == RESET_SOFT ? NAME(less_threshold)(k, m, fired) : m;
}

ROW void NAME(forward_as)(const task *t, prefetch *ahead, int64_t start, int64_t end, const int reset,
                          const int bf16) {
    const lif_call *c = t->call;
    const neuron k = t->neuron;
    const int64_t x_step = c->x_step * t->width, step = c->size * t->width, steps = c->steps;
    const int passing = t->passing;
    for (int64_t i = start; i < end; i += NAME(group)) {
        const char *x = (const char *)c->x + i * t->width;
        char *spikes = (char *)c->spikes + i * t->width;
        vector u[VECTORS], o[VECTORS];
        for (int j = 0; j < VECTORS; j++)
            if (c->before) u[j] = k.sign * NAME(read_membranes)(c->before + i, j, bf16);
            else u[j] = NAME(all)(k.initial);
        fetch(ahead, steps * NAME(group));
        for (int64_t s = 0; s < steps; s++, x += x_step, spikes += step) {
            for (int j = 0; j < VECTORS; j++) {
                vector m = NAME(membrane)(k, u[j], x, j, reset, bf16);
                mask fired = m > k.threshold;
                u[j] = NAME(reset)(k, m, fired, reset);
                o[j] = NAME(select)(fired, NAME(all)(k.high), NAME(all)(k.low));
            }
            NAME(write)(spikes, o, passing, 1, bf16);
        }
        if (c->after)
            for (int j = 0; j < VECTORS; j++)
                NAME(write_membranes)(c->after + i, j, k.sign * u[j], bf16);
    }
}

#define FORWARD(reset, bf16)                                                                        \
    static TARGET void NAME(forward_##reset##bf16)(const task *t, prefetch *ahead, int64_t start,   \
                                                   int64_t end, void *scratch, double *sums) {      \
        (void)scratch, (void)sums;                                                                  \
        NAME(forward_as)(t, ahead, start, end, reset, bf16);                                        \
    }
FORWARD(0, 0) FORWARD(0, 1) FORWARD(1, 0) FORWARD(1, 1) FORWARD(2, 0) FORWARD(2, 1)

static TARGET void NAME(forward)(const task *t, prefetch *ahead, int64_t start, int64_t end,
                                 void *scratch, double *sums) {
    static range_fn *const listed[3][2] = {{NAME(forward_00), NAME(forward_01)},
                                           {NAME(forward_10), NAME(forward_11)},
                                           {NAME(forward_20), NAME(forward_21)}};
    const lif_call *c = t->call;
    listed[c->reset][c->bf16 != 0](t, ahead, start, end, scratch, sums);
}

/* e^-a for a >= 0, as 2^n * e^r with |r| <= ln 2 / 2 and seven terms of the series of e^r (the rest
 * is below 1e-8). ln 2 is subtracted in two parts, of which n times the first is exact. */
ROW vector NAME(exp_minus)(vector a) {
    const float round = 12582912.0f; /* 1.5 * 2^23: a sum with it holds an integer in its low bits */
    mask nothing = a > 87.0f;
    a = NAME(select)(nothing, NAME(all)(87.0f), a);
    vector shifted = a * -1.44269504f + round;
    vector n = shifted - round;
    vector r = (-a - n * 0.693359375f) + n * 2.12194440e-4f;
    vector e = r * (1.0f / 5040.0f) + 1.0f / 720.0f;
    e = e * r + 1.0f / 120.0f;
    e = e * r + 1.0f / 24.0f;
    e = e * r + 1.0f / 6.0f;
    e = e * r + 0.5f;
    e = e * (r * r) + r + 1.0f;
    return NAME(only)(~nothing, e * (vector)(((bits)shifted + 127u) << 23)); /* times 2^n */
}

/* |do/dm|: the surrogate's derivative at z = m / threshold - 1, times dz/dm and a spike's height. */
ROW vector NAME(derivative)(const neuron k, vector m, const int surrogate) {
    if (surrogate == SURROGATE_RECTANGLE) /* jumps, so z must round as in the reference */
        return NAME(only)(NAME(size)(m / k.threshold - 1.0f) < k.half_width, NAME(all)(k.peak));
    vector s = NAME(size)(m * k.inverse_threshold - 1.0f) * k.steepness;
    if (surrogate == SURROGATE_TRIANGLE) return NAME(only)(~(s > k.peak), k.peak - s);
    if (surrogate == SURROGATE_ARCTAN) return k.peak / (1.0f + s * s);
    vector e = NAME(exp_minus)(s);
    return k.peak * e / ((1.0f + e) * (1.0f + e));
}

/* The membranes before the reset are computed again, into `befores`; then dL/dm, from the last step to
 * the first: `later` is that of the step after, 0 where there is none. Adds to the sums of dL/dleak and
 * dL/dthreshold. */
ROW void NAME(backward_as)(const task *t, prefetch *ahead, int64_t start, int64_t end,
                           vector *befores, double *sums, const int surrogate, const int reset,
                           const int learn, const int bf16) {
    const lif_call *c = t->call;
    const neuron k = t->neuron;
    const int64_t x_step = c->x_step * t->width, grad_step = c->grad_step * t->width;
    const int64_t step = c->size * t->width, steps = c->steps;
    const int passing = t->passing, static_x = c->static_x, each_x = c->grad_x && !static_x;
    const int hard = reset == RESET_HARD;
    vector all[5] = {{0}};
    for (int64_t i = start; i < end; i += NAME(group)) {
        vector kept = {0}, fallen = {0}, given = {0}, moved = {0}, first = {0};
        const char *x = (const char *)c->x + i * t->width;
        const char *grad = (const char *)c->grad + i * t->width + steps * grad_step;
        char *grad_x = each_x ? (char *)c->grad_x + i * t->width + steps * step : NULL;
        vector u[VECTORS], later[VECTORS], to_x[VECTORS], sum[VECTORS], *m = befores;
        for (int j = 0; j < VECTORS; j++) {
            u[j] = NAME(all)(k.initial);
            later[j] = sum[j] = NAME(all)(0.0f);
        }
        fetch(ahead, 2 * steps * NAME(group));
        for (int64_t s = 0; s < steps; s++, x += x_step, m += VECTORS)
            for (int j = 0; j < VECTORS; j++) {
                vector before = NAME(membrane)(k, u[j], x, j, reset, bf16);
                u[j] = NAME(reset)(k, before, before > k.threshold, reset);
                m[j] = before;
            }
        for (int64_t s = steps - 1; s >= 0; s--) {
            m -= VECTORS, grad -= grad_step;
            for (int j = 0; j < VECTORS; j++) {
                vector before = m[j], g = NAME(read)(grad, j, bf16);
                mask fired = before > k.threshold;
                vector slope = g * NAME(derivative)(k, before, surrogate);
                vector back = k.leak * later[j];
                if (learn) {
                    if (s < steps - 1) /* nothing follows the last: 0 * infinity is no part of it */
                        kept += later[j] * (hard ? NAME(only)(~fired, before) : before);
                    if (!hard) fallen += NAME(only)(fired, later[j]);
                    given += NAME(only)(fired, g);
                    moved += slope * before;
                }
                later[j] = slope + (hard ? NAME(only)(~fired, back) : back);
                to_x[j] = k.sign_x * later[j];
                if (static_x) sum[j] += to_x[j];
            }
            if (each_x) NAME(write)(grad_x -= step, to_x, passing, 0, bf16);
        }
        for (int j = 0; j < VECTORS; j++) first += later[j];
        if (learn) {
            all[0] += kept, all[1] += fallen, all[2] += given, all[3] += moved;
            all[4] += first;
        }
        if (c->grad_x && static_x) {
            for (int j = 0; j < VECTORS; j++) sum[j] /= (float)steps;
            NAME(write)((char *)c->grad_x + i * t->width, sum, 0, 0, bf16);
        }
    }
    if (!learn) return;
    double sum[5] = {0};
    for (int n = 0; n < 5; n++)
        for (int i = 0; i < NAME(lanes); i++) sum[n] += all[n][i];
    const double lost = reset == RESET_UNDECAYED ? 0.0 : k.threshold * sum[1]; /* before the leak */
    const double leak = reset == RESET_UNDECAYED ? 1.0 : k.leak; /* that the reset went through */
    double by_leak = sum[0] - lost + k.initial * sum[4];
    double by_threshold = k.initial_learns * sum[4] - leak * sum[1] - k.inverse_threshold * sum[3];
    sums[0] += k.sign * k.sign_x * by_leak;
    sums[1] += k.sign_x * by_threshold + k.height_learns * sum[2];
}

#define BACKWARD(surrogate, reset, learn, bf16)                                                     \
    static TARGET void NAME(backward_##surrogate##reset##learn##bf16)(                              \
        const task *t, prefetch *ahead, int64_t start, int64_t end, void *scratch, double *sums) {  \
        NAME(backward_as)(t, ahead, start, end, scratch, sums, surrogate, reset, learn, bf16);      \
    }
#define BACKWARDS(surrogate, reset)                                                                 \
    BACKWARD(surrogate, reset, 0, 0) BACKWARD(surrogate, reset, 0, 1)                               \
    BACKWARD(surrogate, reset, 1, 0) BACKWARD(surrogate, reset, 1, 1)
BACKWARDS(0, 0) BACKWARDS(0, 1) BACKWARDS(0, 2) BACKWARDS(1, 0) BACKWARDS(1, 1) BACKWARDS(1, 2)
BACKWARDS(2, 0) BACKWARDS(2, 1) BACKWARDS(2, 2) BACKWARDS(3, 0) BACKWARDS(3, 1) BACKWARDS(3, 2)

#define LISTED(surrogate, reset)                                                                    \
    {{NAME(backward_##surrogate##reset##00), NAME(backward_##surrogate##reset##01)},                \
     {NAME(backward_##surrogate##reset##10), NAME(backward_##surrogate##reset##11)}}
static TARGET void NAME(backward)(const task *t, prefetch *ahead, int64_t start, int64_t end,
                                  void *scratch, double *sums) {
    static range_fn *const listed[4][3][2][2] = {{LISTED(0, 0), LISTED(0, 1), LISTED(0, 2)},
                                                 {LISTED(1, 0), LISTED(1, 1), LISTED(1, 2)},
                                                 {LISTED(2, 0), LISTED(2, 1), LISTED(2, 2)},
                                                 {LISTED(3, 0), LISTED(3, 1), LISTED(3, 2)}};
    const lif_call *c = t->call;
    listed[c->surrogate][c->reset][c->grad_neuron != NULL][c->bf16 != 0](
        t, ahead, start, end, scratch, sums);
}

#undef ROW
#undef vector
#undef mask
#undef bits
#undef FORWARD
#undef BACKWARD
#undef BACKWARDS
#undef LISTED
