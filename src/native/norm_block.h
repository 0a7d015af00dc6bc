/* Rows of channels, for the compiler to make vectors of. Included once per instruction set, SET. */

/* Adds the distances of a row from `pivot`, and their squares. */
static inline TARGET void NAME(add_row)(float *restrict sums, float *restrict squares,
                                        const float *restrict pivot, const void *restrict x,
                                        int64_t at, int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        float d = load(x, at + c, bf16) - pivot[c];
        sums[c] += d;
        squares[c] += d * d;
    }
}

static inline TARGET void NAME(copy_row)(float *restrict to, const void *restrict x, int64_t at,
                                         int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) to[c] = load(x, at + c, bf16);
}

/* The mean of all steps of a row, to `to` and to memory. */
static inline TARGET void NAME(mean_row)(const norm_call *n, float *restrict to, int64_t row,
                                         const int bf16) {
    const int64_t channels = n->channels;
    const float steps = (float)n->steps;
    NAME(copy_row)(to, n->x, row * channels, channels, bf16);
    for (int64_t s = 1; s < n->steps; s++) {
        const int64_t at = s * n->x_step + row * channels;
        for (int64_t c = 0; c < channels; c++) to[c] += load(n->x, at + c, bf16);
    }
    for (int64_t c = 0; c < channels; c++) to[c] /= steps;
    for (int64_t c = 0; c < channels; c++)
        if (bf16) ((uint16_t *)n->mean_x)[row * channels + c] = to_bfloat16(to[c]);
        else ((float *)n->mean_x)[row * channels + c] = to[c];
}

/* Some rows of steps from `step` to `last`, of one group. */
static inline TARGET void NAME(moments_as)(const norm_call *n, sums *to, int64_t row, int64_t end,
                                           int64_t step, int64_t last, const int bf16) {
    const int64_t channels = n->channels;
    clear(to, channels);
    NAME(copy_row)(to->pivot, n->x, step * n->x_step + row * channels, channels, bf16);
    for (int64_t r = row; r < end; r++) {
        for (int64_t s = step; s < last; s++)
            NAME(add_row)(to->all, to->squares, to->pivot, n->x, s * n->x_step + r * channels, channels,
                          bf16);
        if (!n->mean_x) continue;
        NAME(mean_row)(n, to->row, r, bf16);
        NAME(add_row)(to->means, to->mean_squares, to->pivot, to->row, 0, channels, 0);
    }
}

static TARGET void NAME(moments)(const norm_call *n, sums *to, int64_t row, int64_t end, int64_t step,
                                 int64_t last) {
    if (n->bf16) NAME(moments_as)(n, to, row, end, step, last, 1);
    else NAME(moments_as)(n, to, row, end, step, last, 0);
}

static inline TARGET void NAME(backward_row)(const norm_call *n, const void *x, const void *grad, void *to,
                                             const float *restrict of_grad, const float *restrict of_x,
                                             const float *restrict centre,
                                             const float *restrict constant, const int bf16) {
    for (int64_t c = 0; c < n->channels; c++) {
        float moved = of_x[c] * (load(x, c, bf16) - centre[c]) + constant[c];
        float value = of_grad[c] * load(grad, c, bf16) + moved;
        if (bf16) ((uint16_t *)to)[c] = to_bfloat16(value);
        else ((float *)to)[c] = value;
    }
}

static inline TARGET void NAME(backward_as)(const norm_call *n, int64_t row, int64_t end, const int bf16) {
    const int64_t channels = n->channels, width = bf16 ? 2 : 4;
    for (int64_t s = 0; s < n->steps; s++) {
        const int64_t g = n->per_step ? s * channels : 0;
        for (int64_t r = row; r < end; r++) {
            const char *x = (const char *)n->x + (s * n->x_step + r * channels) * width;
            const char *grad = (const char *)n->grad + (s * n->grad_step + r * channels) * width;
            char *to = (char *)n->grad_x + (s * n->rows + r) * channels * width;
            NAME(backward_row)(n, x, grad, to, n->of_grad + g, n->of_x + g, n->centre + g,
                               n->constant + g, bf16);
        }
    }
}

static TARGET void NAME(backward)(const norm_call *n, int64_t row, int64_t end) {
    if (n->bf16) NAME(backward_as)(n, row, end, 1);
    else NAME(backward_as)(n, row, end, 0);
}
