/* A pixel of a max pool, for the compiler to make vectors of. Included once per instruction set, SET. */

/* The larger ones; a NaN stays. */
static inline TARGET void NAME(take)(float *restrict best, const void *restrict x, int64_t at,
                                     int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        const float value = load(x, at + c, bf16), other = value == value ? best[c] : value;
        best[c] = value > best[c] ? value : other;
    }
}

/* Gives what is left of a step's share to an input that is the largest. */
static inline TARGET void NAME(give)(float *restrict part, float *restrict left, const float *restrict best,
                                     const void *restrict x, int64_t at, int64_t channels, const int bf16) {
    for (int64_t c = 0; c < channels; c++) {
        const float given = load(x, at + c, bf16) == best[c] ? left[c] : 0.0f;
        part[c] += given;
        left[c] -= given;
    }
}

/* Writes a step, adds it to the mean, and returns whether a share was left, which no input wanted. */
static inline TARGET int NAME(tell)(const pool_call *p, const float *restrict best, const float *restrict left,
                                    float *restrict mean, int64_t at, const int bf16) {
    int missing = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        store(p->y, at + c, best[c], bf16);
        mean[c] += best[c];
        missing |= left[c] != 0.0f;
    }
    return missing;
}

/* A pixel of the output at all steps. `room` has three rows of channels. */
static inline TARGET int NAME(pixel)(const pool_call *p, int64_t to, int64_t from, float *room, const int bf16) {
    const int64_t channels = p->channels, line = p->columns.input * channels, step = step_of(p);
    float *best = room, *left = room + channels, *mean = room + 2 * channels;
    int missing = 0;
    memset(mean, 0, (size_t)channels * sizeof *mean);
    for (int64_t k = 0; k < p->rows.kernel * p->columns.kernel; k++)
        memset(p->parts + k * step + to, 0, (size_t)channels * sizeof *mean);
    for (int64_t s = 0; s < p->steps; s++) {
        for (int64_t c = 0; c < channels; c++) best[c] = -__builtin_inff(), left[c] = p->shares[s];
        for (int64_t i = 0; i < p->rows.kernel; i++)
            for (int64_t j = 0; j < p->columns.kernel; j++)
                NAME(take)(best, p->x, s * p->x_step + from + i * line + j * channels, channels, bf16);
        float *part = p->parts + to;
        for (int64_t i = 0; i < p->rows.kernel; i++)
            for (int64_t j = 0; j < p->columns.kernel; j++, part += step)
                NAME(give)(part, left, best, p->x, s * p->x_step + from + i * line + j * channels, channels, bf16);
        missing |= NAME(tell)(p, best, left, mean, s * step + to, bf16);
    }
    for (int64_t c = 0; c < channels; c++) store(p->mean_y, to + c, mean[c] / (float)p->steps, bf16);
    return missing;
}

/* A row of the output of an image. */
static TARGET int NAME(pool_row)(const pool_call *p, int64_t row, float *room) {
    const int64_t line = p->columns.input * p->channels, image = row / p->rows.output;
    const int64_t first = (image * p->rows.input + row % p->rows.output * p->rows.stride) * line;
    int missing = 0;
    for (int64_t j = 0; j < p->columns.output; j++) {
        const int64_t to = (row * p->columns.output + j) * p->channels;
        const int64_t from = first + j * p->columns.stride * p->channels;
        if (p->bf16) missing |= NAME(pixel)(p, to, from, room, 1);
        else missing |= NAME(pixel)(p, to, from, room, 0);
    }
    return missing;
}
