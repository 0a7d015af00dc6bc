/* Neighbouring neurons, for the compiler to make vectors of. Included once per instruction set, SET. */

static inline TARGET void NAME(pass)(const rates_call *r, int64_t first, int64_t count, const int bf16) {
    const float *restrict by = r->by_input + first;
    for (int64_t i = 0; i < count; i++) {
        const float value = load(r->grad, first + i, bf16) * by[i];
        store(r->grad_x, first + i, value, bf16);
    }
}

static inline TARGET double NAME(sum)(const rates_call *r, const float *restrict by, int64_t first,
                                      int64_t count, const int bf16) {
    float lanes[LANES] = {0.0f};
    const int64_t whole = count / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] += load(r->grad, first + i + l, bf16) * by[first + i + l];
    double sum = 0.0;
    for (int l = 0; l < LANES; l++) sum += (double)lanes[l];
    for (int64_t i = whole; i < count; i++) sum += (double)(load(r->grad, first + i, bf16) * by[first + i]);
    return sum;
}

static inline TARGET void NAME(block_as)(const rates_call *r, int64_t first, int64_t end, double *sums,
                                         const int bf16) {
    for (int64_t next, i = first; i < end; i = next) {
        next = least(i + PARTIAL, end);
        NAME(pass)(r, i, next - i, bf16);
        for (int p = 0; p < RATES_PARAMETERS; p++)
            if (r->by[p]) sums[p] += NAME(sum)(r, r->by[p], i, next - i, bf16);
    }
}

static TARGET void NAME(block)(const rates_call *r, int64_t first, int64_t end, double *sums) {
    if (r->bf16) NAME(block_as)(r, first, end, sums, 1);
    else NAME(block_as)(r, first, end, sums, 0);
}
