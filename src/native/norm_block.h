/* Rows of channels, for the compiler to make vectors of. Included once per instruction set, SET. */

/* Adds the distances of a row from `pivot`, and their squares. */
static inline TARGET void NAME(add_row)(float *restrict all, float *restrict squares,
                                        const float *restrict pivot, const void *restrict x,
                                        int64_t at, int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        float d = load(x, at + c, bf16) - pivot[c];
        all[c] += d;
        squares[c] += d * d;
    }
}

/* The same, and products with the distances of the steps' mean. */
static inline TARGET void NAME(add_row_with)(float *restrict all, float *restrict squares,
                                             float *restrict shared, const float *restrict pivot,
                                             const float *restrict mean_pivot, const void *restrict x,
                                             const void *restrict mean, int64_t at, int64_t mean_at,
                                             int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        float d = load(x, at + c, bf16) - pivot[c];
        all[c] += d;
        squares[c] += d * d;
        shared[c] += d * (load(mean, mean_at + c, bf16) - mean_pivot[c]);
    }
}

static inline TARGET void NAME(copy_row)(float *restrict to, const void *restrict x, int64_t at,
                                         int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) to[c] = load(x, at + c, bf16);
}

/* The mean of all steps of `count` values, to memory, and to `to` as it is there. */
static inline TARGET void NAME(mean_of_steps)(const norm_call *n, float *restrict to, int64_t at,
                                              int64_t count, const int bf16) {
    const float steps = (float)n->steps;
    NAME(copy_row)(to, n->x, at, count, bf16);
    for (int64_t s = 1; s < n->steps; s++)
        for (int64_t c = 0; c < count; c++) to[c] += load(n->x, s * n->x_step + at + c, bf16);
    for (int64_t c = 0; c < count; c++) to[c] /= steps;
    for (int64_t c = 0; c < count; c++) store(n->mean_x, at + c, to[c], bf16);
    if (bf16)
        for (int64_t c = 0; c < count; c++) to[c] = load(n->mean_x, at + c, bf16);
}

/* The mean of the steps of a row, and its sums; the pivot is that of the part's first row. */
static inline TARGET void NAME(add_mean)(const norm_call *n, sums *s, int64_t row, int64_t first,
                                         const int bf16) {
    const int64_t channels = n->channels;
    NAME(mean_of_steps)(n, s->row, row * channels, channels, bf16);
    if (row == first) memcpy(s->mean_pivot, s->row, (size_t)channels * sizeof *s->row);
    NAME(add_row)(s->means, s->mean_squares, s->mean_pivot, s->row, 0, channels, 0);
}

/* A part: some rows of all steps. */
static inline TARGET void NAME(moments_of_part)(const norm_call *n, sums *s, int64_t row, int64_t end,
                                                int64_t before, double *found, const int bf16) {
    const int64_t channels = n->channels, groups = step_groups(n), steps = n->steps / groups;
    const double own = (double)(before * steps), more = (double)((end - row) * steps);
    clear(s->means, 2 * channels);
    for (int64_t r = row; n->mean_x && n->per_step && r < end; r++) NAME(add_mean)(n, s, r, row, bf16);
    for (int64_t g = 0; g < groups; g++) {
        clear(s->all, 3 * channels);
        NAME(copy_row)(s->pivot, n->x, g * n->x_step + row * channels, channels, bf16);
        for (int64_t r = row; r < end; r++) {
            for (int64_t i = g; i < g + steps; i++) {
                const int64_t at = i * n->x_step + r * channels;
                if (n->shared)
                    NAME(add_row_with)(s->all, s->squares, s->shared, s->pivot, s->mean_pivot, n->x,
                                       n->mean_x, at, r * channels, channels, bf16);
                else NAME(add_row)(s->all, s->squares, s->pivot, n->x, at, channels, bf16);
            }
            if (n->mean_x && !n->per_step) NAME(add_mean)(n, s, r, row, bf16);
        }
        if (n->shared) add_shared(n, found, g, s, own, more);
        add_part(group_of(n, found, g), channels, s->pivot, s->all, s->squares, own, more);
    }
    if (n->mean_x)
        add_part(group_of(n, found, groups), channels, s->mean_pivot, s->means, s->mean_squares,
                 (double)before, (double)(end - row));
}

static TARGET void NAME(moments)(const norm_call *n, int64_t first, int64_t end, double *found, float *room) {
    sums s = sums_in(room, n->channels);
    for (int64_t next, row = first; row < end; row = next) {
        next = least(row + PARTIAL, end);
        if (n->bf16) NAME(moments_of_part)(n, &s, row, next, row - first, found, 1);
        else NAME(moments_of_part)(n, &s, row, next, row - first, found, 0);
    }
}

static inline TARGET void NAME(scale_row)(const void *restrict x, void *restrict y, int64_t from, int64_t to,
                                          const float *restrict scale, const float *restrict shift,
                                          int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++)
        store(y, to + c, scale[c] * load(x, from + c, bf16) + shift[c], bf16);
}

/* The same, added to `all` as well. */
static inline TARGET void NAME(scale_and_add_row)(const void *restrict x, void *restrict y, int64_t from,
                                                  int64_t to, const float *restrict scale,
                                                  const float *restrict shift, float *restrict all,
                                                  int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        float value = scale[c] * load(x, from + c, bf16) + shift[c];
        all[c] += value;
        store(y, to + c, value, bf16);
    }
}

static inline TARGET void NAME(normalise_as)(const norm_call *n, int64_t first, int64_t end, float *room,
                                             const int bf16) {
    const int64_t channels = n->channels, size = n->rows * channels;
    for (int64_t r = first; r < end; r++) {
        if (n->mean_y) clear(room, channels);
        for (int64_t s = 0; s < n->steps; s++) {
            const int64_t g = n->per_step ? s * channels : 0;
            const int64_t from = s * n->x_step + r * channels, to = s * size + r * channels;
            const float *scale = n->scale + g, *shift = n->shift + g;
            if (n->mean_y)
                NAME(scale_and_add_row)(n->x, n->y, from, to, scale, shift, room, channels, bf16);
            else NAME(scale_row)(n->x, n->y, from, to, scale, shift, channels, bf16);
        }
        for (int64_t c = 0; n->mean_y && c < channels; c++)
            store(n->mean_y, r * channels + c, room[c] / (float)n->steps, bf16);
    }
}

static TARGET void NAME(normalise)(const norm_call *n, int64_t first, int64_t end, double *found,
                                   float *room) {
    (void)found;
    if (n->bf16) NAME(normalise_as)(n, first, end, room, 1);
    else NAME(normalise_as)(n, first, end, room, 0);
}

/* Adds a row of gradients, and their products with the distances of x from `centre`. */
static inline TARGET void NAME(add_gradients)(float *restrict all, float *restrict products,
                                              const void *restrict grad, const void *restrict x,
                                              int64_t grad_at, int64_t at, const float *restrict centre,
                                              int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        float g = load(grad, grad_at + c, bf16);
        all[c] += g;
        products[c] += g * (load(x, at + c, bf16) - centre[c]);
    }
}

static inline TARGET void NAME(sum_as)(const norm_call *n, int64_t first, int64_t end, double *found,
                                       float *room, const int bf16) {
    const int64_t channels = n->channels, groups = step_groups(n), steps = n->steps / groups;
    for (int64_t next, row = first; row < end; row = next) {
        next = least(row + PARTIAL, end);
        for (int64_t g = 0; g < groups; g++) {
            clear(room, 2 * channels);
            for (int64_t r = row; r < next; r++)
                for (int64_t s = g; s < g + steps; s++)
                    NAME(add_gradients)(room, room + channels, n->grad, n->x,
                                        s * n->grad_step + r * channels, s * n->x_step + r * channels,
                                        n->centre + g * channels, channels, bf16);
            for (int64_t i = 0; i < 2 * channels; i++) found[g * 2 * channels + i] += room[i];
        }
    }
}

static TARGET void NAME(sum)(const norm_call *n, int64_t first, int64_t end, double *found, float *room) {
    if (n->bf16) NAME(sum_as)(n, first, end, found, room, 1);
    else NAME(sum_as)(n, first, end, found, room, 0);
}

static inline TARGET void NAME(backward_row)(const norm_call *n, const void *x, const void *grad, void *to,
                                             const float *restrict of_grad, const float *restrict of_x,
                                             const float *restrict centre,
                                             const float *restrict constant, const int bf16) {
    for (int64_t c = 0; c < n->channels; c++) {
        float moved = of_x[c] * (load(x, c, bf16) - centre[c]) + constant[c];
        store(to, c, of_grad[c] * load(grad, c, bf16) + moved, bf16);
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

static TARGET void NAME(backward)(const norm_call *n, int64_t row, int64_t end, double *found, float *room) {
    (void)found, (void)room;
    if (n->bf16) NAME(backward_as)(n, row, end, 1);
    else NAME(backward_as)(n, row, end, 0);
}
