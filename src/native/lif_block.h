/* One block of neighbouring neurons through all timesteps.
 *
 * Included once per instruction set, SET. The innermost loops run plainly over the elements of the
 * block, so that compilers vectorise them. Membranes must round as in the reference, hence no
 * contraction (-ffp-contract=off) and no -ffast-math.
 */

#define ROW static inline __attribute__((always_inline)) TARGET

/* Rounded to nearest even. */

ROW void NAME(store)(void *restrict to, int i, float value, const int bf16) {
    if (bf16) ((uint16_t *)to)[i] = to_bfloat16(value);
    else ((float *)to)[i] = value;
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

ROW void NAME(step)(const neuron k, float *restrict u, const void *restrict x,
                    void *restrict spikes, int n, const int hard, const int bf16) {
    SIMD()
    for (int i = 0; i < n; i++) {
        float m = k.leak * u[i] + load(x, i, bf16);
        int fired = NAME(fires)(k, m);
        u[i] = NAME(reset)(k, m, fired, hard);
        if (bf16) ((uint16_t *)spikes)[i] = fired ? k.high_bf16 : k.low_bf16;
        else ((float *)spikes)[i] = fired ? k.high : k.low;
    }
}

/* The membrane before the reset, from that of the step before. */
ROW void NAME(restep)(const neuron k, const float *restrict previous, const void *restrict x,
                      float *restrict before, int n, const int hard, const int bf16) {
    SIMD()
    for (int i = 0; i < n; i++) {
        float u = NAME(reset)(k, previous[i], NAME(fires)(k, previous[i]), hard);
        before[i] = k.leak * u + load(x, i, bf16);
    }
}

static TARGET void NAME(fill)(float *to, float value, int n) {
    for (int i = 0; i < n; i++) to[i] = value;
}

static TARGET void NAME(forward_block)(const lif_call *c, const neuron *k, int64_t start, int n,
                                       float *scratch) {
    float *u = scratch;
    if (c->before) memcpy(u, c->before + start, (size_t)n * sizeof *u);
    else NAME(fill)(u, k->initial, n);
    for (int64_t t = 0; t < c->steps; t++) {
        const void *x = element(c, c->x, t * c->x_step + start);
        void *spikes = element(c, c->spikes, t * c->size + start);
        if (c->hard_reset && c->bf16) NAME(step)(*k, u, x, spikes, n, 1, 1);
        else if (c->hard_reset) NAME(step)(*k, u, x, spikes, n, 1, 0);
        else if (c->bf16) NAME(step)(*k, u, x, spikes, n, 0, 1);
        else NAME(step)(*k, u, x, spikes, n, 0, 0);
    }
    if (c->after) memcpy(c->after + start, u, (size_t)n * sizeof *u);
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
 * is none), to `carry`, that of this one, which is dL/dx as well. Adds to the sums of dL/dleak and
 * dL/dthreshold. */
ROW void NAME(unstep)(const neuron k, const float *restrict before, const void *restrict grad,
                      const float *restrict later, float *restrict carry, void *restrict grad_x,
                      double *restrict sums, int n, const int surrogate, const int hard,
                      const int learn, const int bf16) {
    for (int start = 0; start < n; start += PARTIAL) {
        int end = start + PARTIAL < n ? start + PARTIAL : n;
        float leak_sum = 0.0f, threshold_sum = 0.0f;
        SIMD(reduction(+ : leak_sum, threshold_sum))
        for (int i = start; i < end; i++) {
            float m = before[i], g = load(grad, i, bf16);
            int fired = NAME(fires)(k, m);
            float q = surrogate == SURROGATE_RECTANGLE ? m / k.threshold : m * k.inverse_threshold;
            float slope = k.height_slope * g * NAME(derivative)(k, q - 1.0f, surrogate);
            float from_later = k.leak * later[i]; /* dL/d(membrane after the reset) */
            float from_reset = hard && fired ? 0.0f : from_later;
            if (learn) {
                float direct = k.height_learns * g - (hard ? 0.0f : from_later);
                leak_sum += later[i] * NAME(reset)(k, m, fired, hard);
                threshold_sum += (fired ? direct : 0.0f) - slope * q;
            }
            carry[i] = from_reset + slope;
            if (bf16) NAME(store)(grad_x, i, from_reset + slope, 1);
        }
        sums[0] += leak_sum;
        sums[1] += threshold_sum;
    }
}

typedef void NAME(unstep_fn)(const neuron *, const float *, const void *, const float *, float *,
                             void *, double *, int);

#define UNSTEP(surrogate, hard, learn, bf16)                                                      \
    static TARGET void NAME(unstep_##surrogate##hard##learn##bf16)(                               \
        const neuron *k, const float *before, const void *grad, const float *later, float *carry, \
        void *grad_x, double *sums, int n) {                                                      \
        NAME(unstep)(*k, before, grad, later, carry, grad_x, sums, n, surrogate, hard, learn,     \
                     bf16);                                                                       \
    }
#define UNSTEPS(surrogate, hard)                                                                  \
    UNSTEP(surrogate, hard, 0, 0) UNSTEP(surrogate, hard, 0, 1)                                   \
    UNSTEP(surrogate, hard, 1, 0) UNSTEP(surrogate, hard, 1, 1)
UNSTEPS(0, 0) UNSTEPS(0, 1) UNSTEPS(1, 0) UNSTEPS(1, 1)
UNSTEPS(2, 0) UNSTEPS(2, 1) UNSTEPS(3, 0) UNSTEPS(3, 1)

#define ROWS(surrogate, hard)                                                                     \
    {{NAME(unstep_##surrogate##hard##00), NAME(unstep_##surrogate##hard##01)},                    \
     {NAME(unstep_##surrogate##hard##10), NAME(unstep_##surrogate##hard##11)}}
static NAME(unstep_fn) *const NAME(unsteps)[4][2][2][2] = {
    {ROWS(0, 0), ROWS(0, 1)}, {ROWS(1, 0), ROWS(1, 1)},
    {ROWS(2, 0), ROWS(2, 1)}, {ROWS(3, 0), ROWS(3, 1)}};

static TARGET double NAME(total)(const float *terms, int n) {
    double sum = 0.0;
    SIMD(reduction(+ : sum))
    for (int i = 0; i < n; i++) sum += terms[i];
    return sum;
}

static TARGET void NAME(add)(float *restrict to, const float *restrict from, int n) {
    for (int i = 0; i < n; i++) to[i] += from[i];
}

static TARGET void NAME(mean)(void *restrict to, const float *restrict sum, int n, float steps,
                              int bf16) {
    if (bf16)
        for (int i = 0; i < n; i++) NAME(store)(to, i, sum[i] / steps, 1);
    else
        for (int i = 0; i < n; i++) NAME(store)(to, i, sum[i] / steps, 0);
}

/* The membranes before the reset of all steps. */
static TARGET void NAME(recompute)(const lif_call *c, const neuron *k, int64_t start, int n,
                                   const float *initial, float *befores) {
    const float *previous = initial; /* as if before a reset: it does not fire */
    for (int64_t t = 0; t < c->steps; t++) {
        const void *x = element(c, c->x, t * c->x_step + start);
        float *before = befores + t * n;
        if (c->hard_reset && c->bf16) NAME(restep)(*k, previous, x, before, n, 1, 1);
        else if (c->hard_reset) NAME(restep)(*k, previous, x, before, n, 1, 0);
        else if (c->bf16) NAME(restep)(*k, previous, x, before, n, 0, 1);
        else NAME(restep)(*k, previous, x, before, n, 0, 0);
        previous = before;
    }
}

static TARGET void NAME(backward_block)(const lif_call *c, const neuron *k, int64_t start, int n,
                                        float *scratch, double *sums) {
    float *carries[] = {scratch, scratch + n}, *x_sum = scratch + 2 * n, *unwanted = x_sum + n;
    float *befores = unwanted + n;
    NAME(fill)(carries[0], k->initial, n);
    NAME(recompute)(c, k, start, n, carries[0], befores);
    NAME(unstep_fn) *unstep =
        NAME(unsteps)[c->surrogate][c->hard_reset != 0][c->grad_neuron != NULL][c->bf16 != 0];
    const int per_step = c->grad_x && !c->static_x;
    const float *later = carries[1];
    NAME(fill)(carries[1], 0.0f, n);
    NAME(fill)(x_sum, 0.0f, n);
    sums[0] = sums[1] = 0.0;
    for (int64_t t = c->steps - 1; t >= 0; t--) {
        const void *grad = element(c, c->grad, t * c->grad_step + start);
        void *grad_x = per_step ? element(c, c->grad_x, t * c->size + start) : unwanted;
        float *carry = per_step && !c->bf16 ? grad_x : carries[(c->steps - 1 - t) & 1];
        unstep(k, befores + t * n, grad, later, carry, grad_x, sums, n);
        if (t == c->steps - 1) sums[0] = 0.0; /* nothing follows: 0 * infinity is no part of it */
        if (c->static_x) NAME(add)(x_sum, carry, n);
        later = carry;
    }
    if (c->grad_x && c->static_x)
        NAME(mean)(element(c, c->grad_x, start), x_sum, n, (float)c->steps, c->bf16);
    double first = NAME(total)(later, n); /* dL/d(membrane of the first step) */
    sums[0] += first * k->initial;
    sums[1] += first * k->initial_learns;
}

#undef ROW
#undef ROWS
#undef UNSTEP
#undef UNSTEPS
