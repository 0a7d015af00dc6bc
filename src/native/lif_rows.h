/* One step of a group of neighbouring neurons.
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

/* Reads vector j of the group at `from`. In bfloat16 a pair of vectors holds the even and the odd elements
 * of one read. No operation mixes elements, so widening and narrowing need not move any. */
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

/* Writes the group. With `exact`, bfloat16 holds the values. Else they are rounded to nearest even, so every
 * NaN must have zeros in its lower half. Those of bfloat16, of the processor and of prepare() have. */
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

/* Returns the values of the channels of vector j, in the order of norm_table. `at` is the group's place. */
ROW vector NAME(of_channels)(const norm_table *n, const float *values, int64_t at, int j, const int bf16) {
    const int lanes = NAME(lanes);
    return NAME(read)(values + (bf16 ? j % 2 * n->half + at / 2 + j / 2 * lanes : at + j * lanes), 0, 0);
}

/* Returns vector j of the input at step s, scaled and shifted if there is a norm. */
ROW vector NAME(current)(const norm_table *n, const void *x, int64_t s, int64_t at, int j, const int bf16) {
    vector y = NAME(read)(x, j, bf16);
    if (!n->scale) return y;
    const float *scale = n->scale + s * n->step, *shift = n->shift + s * n->step;
    return y * NAME(of_channels)(n, scale, at, j, bf16) + NAME(of_channels)(n, shift, at, j, bf16);
}

/* Vector j of the group's membranes, which are float32 even if the input is bfloat16. */

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

/* Computes u <- leak * u + x, fired = u / threshold - 1 > 0, and the reset. The next step does an undecayed
 * reset, and finds again whether u fired.
 *
 * A negative threshold v is computed as -v with inputs and membranes of the other sign. In float32
 * u / v - 1 > 0 exactly where u > v: a larger u is larger by one unit in the last place of v or more,
 * so that u / v rounds to more than 1, and 1 is then subtracted exactly. Infinities and NaN agree as
 * well. */

ROW vector NAME(less_threshold)(const neuron k, vector m, mask fired) {
    return NAME(select)(fired, m - k.threshold, m - k.quiet);
}

ROW vector NAME(membrane)(const neuron k, vector u, vector current, const int reset) {
    vector m = k.leak * u + k.sign * current;
    return reset == RESET_UNDECAYED ? NAME(less_threshold)(k, m, u > k.threshold) : m;
}

ROW vector NAME(reset)(const neuron k, vector m, mask fired, const int reset) {
    if (reset == RESET_HARD) return NAME(only)(~fired, m);
    return reset == RESET_SOFT ? NAME(less_threshold)(k, m, fired) : m;
}

/* Returns where a membrane after the reset is below the floor. */
ROW mask NAME(sunken)(const neuron k, vector u) { return k.sign * u < k.lowest; }

/* Returns the membrane after a step, reset and raised to the floor. */
ROW vector NAME(after)(const neuron k, vector m, mask fired, const int reset, const int floored) {
    vector u = NAME(reset)(k, m, fired, reset);
    return floored ? NAME(select)(NAME(sunken)(k, u), NAME(all)(k.sign * k.lowest), u) : u;
}

/* Returns e^-a for a >= 0, as 2^n * e^r with |r| <= ln 2 / 2 and seven terms of the series of e^r, whose
 * rest is below 1e-8. ln 2 is subtracted in two parts; n times the first part is exact. */
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

/* Returns |do/dm|, the surrogate's derivative at z = m / threshold - 1, times dz/dm and a spike's height. */
ROW vector NAME(derivative)(const neuron k, vector m, const int surrogate) {
    if (surrogate == SURROGATE_RECTANGLE) /* it jumps, so z must round as in the reference */
        return NAME(only)(NAME(size)(m / k.threshold - 1.0f) < k.half_width, NAME(all)(k.peak));
    vector s = NAME(size)(m * k.inverse_threshold - 1.0f) * k.steepness;
    if (surrogate == SURROGATE_TRIANGLE) return NAME(only)(~(s > k.peak), k.peak - s);
    if (surrogate == SURROGATE_ARCTAN) return k.peak / (1.0f + s * s);
    vector e = NAME(exp_minus)(s);
    return k.peak * e / ((1.0f + e) * (1.0f + e));
}

