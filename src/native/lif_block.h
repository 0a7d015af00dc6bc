/* One block of neighbouring neurons through all timesteps.
 *
 * Included once per instruction set, with TARGET (the attribute that selects it) and NAME(f) (f's
 * name for it) defined. The innermost loops run plainly over the elements of the block, so that
 * compilers vectorise them. Membranes must round as in the reference, hence no contraction
 * (-ffp-contract=off) and no -ffast-math.
 */

#define ROW static inline __attribute__((always_inline)) TARGET

/* bfloat16 <-> float32: rounded to nearest even, every NaN to the same quiet NaN. */
static TARGET void NAME(widen)(float *restrict to, const uint16_t *restrict from, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

static TARGET void NAME(narrow)(uint16_t *restrict to, const float *restrict from, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &from[i], sizeof bits);
        uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
        to[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
    }
}

/* A row of a tensor as float32: in place, or widened into `room`. */
static TARGET const float *NAME(row)(const lif_call *c, const void *data, int64_t at, int n,
                                     float *room) {
    if (!c->bf16) return (const float *)data + at;
    NAME(widen)(room, (const uint16_t *)data + at, n);
    return room;
}

/* u <- leak * u + x;  fired = u / threshold - 1 > 0;  reset.
 *
 * In float32 u / v - 1 > 0 exactly where u > v, for v > 0: a larger u is larger by one unit in the
 * last place of v or more, so that u / v rounds to more than 1, and 1 is then subtracted exactly.
 * For v < 0 both sides change their sign; infinities and NaN agree as well. */

ROW int NAME(fires)(const neuron k, float m) { return m * k.sign > k.magnitude; }

ROW float NAME(reset)(const neuron k, float m, int fired, const int hard) {
    if (hard) return fired ? 0.0f : m;
    return m - (fired ? k.threshold : k.quiet);
}

ROW void NAME(step)(const neuron k, float *restrict u, const float *restrict x,
                    float *restrict spikes, int n, const int hard) {
    SIMD()
    for (int i = 0; i < n; i++) {
        float m = k.leak * u[i] + x[i];
        int fired = NAME(fires)(k, m);
        u[i] = NAME(reset)(k, m, fired, hard);
        spikes[i] = fired ? k.high : k.low;
    }
}

/* The membrane before the reset, from that of the step before. */
ROW void NAME(restep)(const neuron k, const float *restrict previous, const float *restrict x,
                      float *restrict before, int n, const int hard) {
    SIMD()
    for (int i = 0; i < n; i++) {
        float u = NAME(reset)(k, previous[i], NAME(fires)(k, previous[i]), hard);
        before[i] = k.leak * u + x[i];
    }
}

static TARGET void NAME(forward_block)(const lif_call *c, const neuron *p, int64_t start, int n,
                                       float *scratch) {
    float *u = scratch, *x_room = scratch + n, *o_room = scratch + 2 * (int64_t)n;
    for (int i = 0; i < n; i++) u[i] = p->initial;
    for (int64_t t = 0; t < c->steps; t++) {
        int64_t at = t * c->size + start;
        const float *x = NAME(row)(c, c->x, t * c->x_step + start, n, x_room);
        float *o = c->bf16 ? o_room : (float *)c->spikes + at;
        if (c->hard_reset) NAME(step)(*p, u, x, o, n, 1);
        else NAME(step)(*p, u, x, o, n, 0);
        if (c->bf16) NAME(narrow)((uint16_t *)c->spikes + at, o, n);
    }
}

/* do/dz */

/* e^-a for a >= 0, as 2^n * e^r with |r| <= ln 2 / 2 and seven terms of the series of e^r (the rest
 * is below 1e-8). ln 2 is subtracted in two parts, of which n times the first is exact. */
ROW float NAME(exp_minus)(float a) {
    const float round = 12582912.0f; /* 1.5 * 2^23: a sum with it holds an integer in its low bits */
    a = a > 87.0f ? 87.0f : a;
    float shifted = a * -1.44269504f + round;
    float n = shifted - round;
    float r = (-a - n * 0.693359375f) + n * 2.12194440e-4f;
    float e = 1.0f / 5040.0f;
    e = e * r + 1.0f / 720.0f;
    e = e * r + 1.0f / 120.0f;
    e = e * r + 1.0f / 24.0f;
    e = e * r + 1.0f / 6.0f;
    e = e * r + 0.5f;
    e = e * (r * r) + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23; /* 2^n */
    float power;
    memcpy(&power, &bits, sizeof power);
    return e * power;
}

ROW float NAME(derivative)(const neuron k, float z, const int surrogate) {
    float size = fabsf(z);
    if (surrogate == SURROGATE_TRIANGLE) {
        float d = 1.0f - size * k.inverse_width;
        return k.scale * (d < 0.0f ? 0.0f : d);
    }
    if (surrogate == SURROGATE_ARCTAN) {
        float s = k.arctan_slope * z;
        return k.scale * 0.5f / (1.0f + s * s);
    }
    if (surrogate == SURROGATE_SIGMOID) {
        float e = NAME(exp_minus)(k.scale * size);
        return k.scale * e / ((1.0f + e) * (1.0f + e));
    }
    return (float)(size < k.half_width) * k.inverse_width;
}

/* One step backwards: from `later`, dL/d(membrane before the reset) of the step after (0 where there
 * is none), to `carry`, that of this one. Adds to the sums of dL/dleak and dL/dthreshold. */
ROW void NAME(unstep)(const neuron k, const float *restrict before, const float *restrict grad,
                      const float *restrict later, float *restrict carry, double *sums, int n,
                      const int surrogate, const int hard, const int learn) {
    for (int start = 0; start < n; start += PARTIAL) {
        int end = start + PARTIAL < n ? start + PARTIAL : n;
        float leak_sum = 0.0f, threshold_sum = 0.0f;
        SIMD(reduction(+ : leak_sum, threshold_sum))
        for (int i = start; i < end; i++) {
            float m = before[i];
            int fired = NAME(fires)(k, m);
            float q = surrogate == SURROGATE_RECTANGLE ? m / k.threshold : m * k.inverse_threshold;
            float slope = k.height_slope * grad[i] * NAME(derivative)(k, q - 1.0f, surrogate);
            float from_later = k.leak * later[i]; /* dL/d(membrane after the reset) */
            if (learn) {
                float direct = k.height_learns * grad[i] - (hard ? 0.0f : from_later);
                leak_sum += later[i] * NAME(reset)(k, m, fired, hard);
                threshold_sum += (fired ? direct : 0.0f) - slope * q;
            }
            carry[i] = (hard && fired ? 0.0f : from_later) + slope;
        }
        sums[0] += leak_sum;
        sums[1] += threshold_sum;
    }
}

typedef void NAME(unstep_fn)(const neuron *, const float *, const float *, const float *, float *,
                             double *, int);

#define UNSTEP(surrogate, hard, learn)                                                          \
    static TARGET void NAME(unstep_##surrogate##hard##learn)(                                   \
        const neuron *p, const float *before, const float *grad, const float *later,            \
        float *carry, double *sums, int n) {                                                    \
        NAME(unstep)(*p, before, grad, later, carry, sums, n, surrogate, hard, learn);           \
    }
#define UNSTEPS(surrogate)                                                                      \
    UNSTEP(surrogate, 0, 0) UNSTEP(surrogate, 0, 1) UNSTEP(surrogate, 1, 0) UNSTEP(surrogate, 1, 1)
UNSTEPS(0) UNSTEPS(1) UNSTEPS(2) UNSTEPS(3)

#define UNSTEPS_OF(surrogate)                                                                   \
    {{NAME(unstep_##surrogate##00), NAME(unstep_##surrogate##01)},                              \
     {NAME(unstep_##surrogate##10), NAME(unstep_##surrogate##11)}}
static NAME(unstep_fn) *const NAME(unsteps)[4][2][2] = {UNSTEPS_OF(0), UNSTEPS_OF(1),
                                                        UNSTEPS_OF(2), UNSTEPS_OF(3)};

static TARGET double NAME(total)(const float *terms, int n) {
    double sum = 0.0;
    SIMD(reduction(+ : sum))
    for (int i = 0; i < n; i++) sum += terms[i];
    return sum;
}

static TARGET void NAME(add)(float *restrict to, const float *restrict from, int n) {
    for (int i = 0; i < n; i++) to[i] += from[i];
}

static TARGET void NAME(fill)(float *to, float value, int n) {
    for (int i = 0; i < n; i++) to[i] = value;
}

static TARGET void NAME(backward_block)(const lif_call *c, const neuron *p, int64_t start, int n,
                                        float *scratch, double *sums) {
    float *room = scratch, *x_sum = scratch + n, *carries[] = {x_sum + n, x_sum + 2 * n};
    float *befores = x_sum + 3 * n;
    NAME(fill)(carries[0], p->initial, n); /* as if before a reset: it does not fire */
    NAME(fill)(carries[1], 0.0f, n);
    NAME(fill)(x_sum, 0.0f, c->static_x ? n : 0);
    const float *before = carries[0];
    for (int64_t t = 0; t < c->steps; t++) {
        const float *x = NAME(row)(c, c->x, t * c->x_step + start, n, room);
        if (c->hard_reset) NAME(restep)(*p, before, x, befores + t * n, n, 1);
        else NAME(restep)(*p, before, x, befores + t * n, n, 0);
        before = befores + t * n;
    }
    NAME(unstep_fn) *unstep = NAME(unsteps)[c->surrogate][c->hard_reset != 0][sums != NULL];
    const int in_place = c->grad_x && !c->bf16 && !c->static_x;
    double unused[2] = {0}, *sum = sums ? sums : unused;
    const float *later = carries[1];
    sum[0] = sum[1] = 0;
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        int64_t at = t * c->size + start;
        const float *grad = NAME(row)(c, c->grad, t * c->grad_step + start, n, room);
        float *carry = in_place ? (float *)c->grad_x + at : carries[(c->steps - 1 - t) & 1];
        unstep(p, befores + t * n, grad, later, carry, sum, n);
        if (t == c->steps - 1) sum[0] = 0; /* nothing follows: 0 * infinity is no part of it */
        if (c->grad_x && c->static_x) NAME(add)(x_sum, carry, n);
        else if (c->grad_x && c->bf16) NAME(narrow)((uint16_t *)c->grad_x + at, carry, n);
        later = carry;
    }
    if (c->grad_x && c->static_x) {
        for (int i = 0; i < n; i++) x_sum[i] /= (float)c->steps;
        if (c->bf16) NAME(narrow)((uint16_t *)c->grad_x + start, x_sum, n);
        else memcpy((float *)c->grad_x + start, x_sum, (size_t)n * sizeof(float));
    }
    double first = NAME(total)(later, n); /* dL/d(membrane of the first step) */
    sum[0] += first * p->initial;
    sum[1] += first * p->initial_learns;
}

#undef ROW
#undef UNSTEP
#undef UNSTEPS
#undef UNSTEPS_OF
